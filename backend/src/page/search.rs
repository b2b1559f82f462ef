//! The search for streams.

use maud::{Markup, html};

use super::entries::entry;
use super::layout::{Section, document};
use super::texts;
use super::view::View;
use crate::model::{Day, Holodule, NEEDLE_LIMIT, Streamers};

/// The form of the search and its result.
pub(crate) struct Search<'a> {
    /// The text, or empty.
    pub(crate) text: &'a str,
    /// The code or name of the streamer, or empty.
    pub(crate) streamer: &'a str,
    /// The first and the last day.
    pub(crate) days: (Day, Day),
    /// Whether the latest stream is first.
    pub(crate) latest_first: bool,
    /// The streamers that the form suggests.
    pub(crate) streamers: &'a Streamers,
    /// Why there is no result.
    pub(crate) problem: Option<SearchProblem>,
    /// The result; `None` without a search.
    pub(crate) found: Option<Found>,
}

/// Why a search has no result. Each is about a field of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchProblem {
    /// The text is too long or has control characters.
    Text,
    /// More days than this.
    TooManyDays(i64),
    /// More days than this, with a text.
    TooManyDaysForText(i64),
    /// The first day is after the last.
    DaysReversed,
}

impl SearchProblem {
    fn is_of_text(self) -> bool {
        self == Self::Text
    }

    fn describe(self, view: &View) -> String {
        let days = |text, limit: i64| view.fill(text, &[("count", &limit.to_string())]);
        match self {
            Self::Text => view.fill(texts::WRONG_TEXT, &[("count", &NEEDLE_LIMIT.to_string())]),
            Self::TooManyDays(limit) => days(texts::TOO_MANY_DAYS, limit),
            Self::TooManyDaysForText(limit) => days(texts::TOO_MANY_DAYS_FOR_TEXT, limit),
            Self::DaysReversed => view.text(texts::DAYS_REVERSED).to_owned(),
        }
    }
}

/// The attributes of a field with a problem: `aria-describedby` and `aria-invalid`.
type Marks = (Option<&'static str>, Option<&'static str>);

fn marks(problem: Option<SearchProblem>, id: &'static str) -> Marks {
    problem.map_or((None, None), |_| (Some(id), Some("true")))
}

/// The place of a problem, below its field.
fn error(view: &View, problem: Option<SearchProblem>, id: &str) -> Markup {
    html! { @if let Some(problem) = problem { p.error id=(id) { (problem.describe(view)) } } }
}

/// A page of the result.
pub(crate) struct Found {
    /// The number of all streams.
    pub(crate) total: u64,
    /// The streams of this page.
    pub(crate) holodules: Vec<Holodule>,
    /// The number of documents of this page that could not be read.
    pub(crate) unreadable: usize,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// The document of the search.
pub(crate) fn search(view: &View, search: &Search<'_>) -> String {
    let (from, to) = (search.days.0.iso(), search.days.1.iso());
    let of_text = search.problem.filter(|problem| problem.is_of_text());
    let of_days = search.problem.filter(|problem| !problem.is_of_text());
    let (text_describedby, text_invalid) = marks(of_text, "q-error");
    let (days_describedby, days_invalid) = marks(of_days, "days-error");
    let content = html! {
        section aria-labelledby="search" {
            h1 #search { (view.text(texts::SEARCH)) }
            form.search action="/page/search" method="get" role="search" {
                div.field.wide {
                    label for="q" { (view.text(texts::SEARCH_TEXT)) }
                    input #q name="q" type="search" value=(search.text) maxlength="100" autocomplete="off"
                        aria-describedby=[text_describedby] aria-invalid=[text_invalid];
                    (error(view, of_text, "q-error"))
                }
                div.field {
                    label for="streamer" { (view.text(texts::STREAMER)) }
                    input #streamer name="streamer" value=(search.streamer) list="streamers" autocomplete="off";
                    datalist #streamers {
                        @for streamer in search.streamers.iter() {
                            option value=(streamer.code) { (streamer.name.as_deref().unwrap_or_default()) }
                        }
                    }
                }
                div.days {
                    div.field {
                        label for="from" { (view.text(texts::FROM_DAY)) }
                        input #from name="from" type="date" value=(from) min="0000-01-01" max="9999-12-31"
                            aria-describedby=[days_describedby] aria-invalid=[days_invalid];
                    }
                    div.field {
                        label for="to" { (view.text(texts::TO_DAY)) }
                        input #to name="to" type="date" value=(to) min="0000-01-01" max="9999-12-31"
                            aria-describedby=[days_describedby] aria-invalid=[days_invalid];
                    }
                    (error(view, of_days, "days-error"))
                }
                div.field {
                    label for="order" { (view.text(texts::ORDER)) }
                    select #order name="order" {
                        option value="latest" selected[search.latest_first] { (view.text(texts::LATEST_FIRST)) }
                        option value="earliest" selected[!search.latest_first] { (view.text(texts::EARLIEST_FIRST)) }
                    }
                }
                @if view.is_chosen { input type="hidden" name="lang" value=(view.language.tag()); }
                button.primary type="submit" { (view.text(texts::SEARCH)) }
            }
        }
        @if let Some(found) = &search.found {
            section aria-labelledby="results" {
                h2 #results { (view.streams(found.total)) }
                @if found.unreadable > 0 {
                    p.notice { (view.fill(texts::UNREADABLE, &[("count", &found.unreadable.to_string())])) }
                }
                @if found.total == 0 { p.empty { (view.text(texts::NOTHING_FOUND)) } }
                ol.entries { @for holodule in &found.holodules { (entry(view, holodule, true)) } }
                @if let Some(next) = &found.next {
                    @let order = if search.latest_first { "latest" } else { "earliest" };
                    @let query = [("q", search.text), ("streamer", search.streamer), ("from", &from), ("to", &to),
                        ("order", order), ("cursor", next)];
                    p { a.step rel="next" href=(view.link("/page/search", &query)) { (view.text(texts::NEXT_PAGE)) } }
                }
            }
        }
    };
    document(view, Some(Section::Search), view.text(texts::SEARCH), &content, &html! {})
}
