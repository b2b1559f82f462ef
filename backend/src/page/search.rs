//! The search for streams.

use maud::html;

use super::entries::entry;
use super::layout::{Section, document};
use super::texts;
use super::view::View;
use crate::model::{Day, Holodule, Streamers};

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
    /// Why there is no result, such as an invalid text.
    pub(crate) problem: Option<String>,
    /// The result; `None` without a search.
    pub(crate) found: Option<Found>,
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
    let content = html! {
        section aria-labelledby="search" {
            h1 #search { (view.text(texts::SEARCH)) }
            form.search action="/page/search" method="get" role="search" {
                div.field.wide {
                    label for="q" { (view.text(texts::SEARCH_TEXT)) }
                    input #q name="q" type="search" value=(search.text) maxlength="100" autocomplete="off"
                        aria-describedby="search-error" aria-invalid=[search.problem.as_ref().map(|_| "true")];
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
                div.field {
                    label for="from" { (view.text(texts::FROM_DAY)) }
                    input #from name="from" type="date" value=(from) min="0000-01-01" max="9999-12-31";
                }
                div.field {
                    label for="to" { (view.text(texts::TO_DAY)) }
                    input #to name="to" type="date" value=(to) min="0000-01-01" max="9999-12-31";
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
            p.error #search-error role="alert" {
                @if let Some(problem) = &search.problem { (problem) }
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
