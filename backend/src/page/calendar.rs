//! The calendar of a month and the timeline of a day.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::entries::entry;
use super::language::Language;
use super::layout::{Section, document};
use super::texts;
use super::view::View;
use super::when::{self, Month};
use crate::model::{Day, Holodule};

/// The content of the calendar.
pub(crate) struct Calendar {
    /// Today in Japan.
    pub(crate) today: Day,
    /// The month.
    pub(crate) month: Month,
    /// The number of streams of each day of the month.
    pub(crate) counts: BTreeMap<Day, u64>,
    /// The day of the timeline.
    pub(crate) day: DayView,
}

/// The streams of a day.
pub(crate) struct DayView {
    /// The day.
    pub(crate) day: Day,
    /// The number of all streams of the day.
    pub(crate) total: u64,
    /// The streams in ascending order.
    pub(crate) holodules: Vec<Holodule>,
    /// The number of documents that could not be read.
    pub(crate) unreadable: usize,
    /// The time of the day, `hhmmss`, from which on there are more.
    pub(crate) later: Option<String>,
}

/// The document of the calendar.
pub(crate) fn calendar(view: &View, calendar: &Calendar) -> String {
    let title = when::in_words(calendar.day.day, view.language);
    let content = html! {
        div.calendar {
            (month(view, calendar))
            (day(view, &calendar.day))
        }
    };
    document(view, Some(Section::Calendar), &title, &content, &html! {})
}

fn month(view: &View, calendar: &Calendar) -> Markup {
    let Calendar { today, month, counts, day } = calendar;
    let sunday_first = view.language == Language::Japanese;
    let weekday = |day: Day| if sunday_first { (day.weekday() + 1) % 7 } else { day.weekday() };
    let weekdays = |text: texts::Text| {
        let mut names: Vec<&str> = view.text(text).split(' ').collect();
        names.rotate_right(usize::from(sunday_first));
        names
    };
    let days: Vec<Option<Day>> = (0..weekday(month.first())).map(|_| None).chain(month.days().map(Some)).collect();
    let most = counts.values().copied().max().unwrap_or(0);
    html! {
        section.month aria-labelledby="month" {
            h1 #month { (month.in_words(view.language)) }
            div.steps {
                @if let Some(previous) = month.previous() {
                    a.step rel="prev" href=(view.link("/", &[("month", &previous.iso())])) aria-label=(view.text(texts::PREVIOUS_MONTH)) { "‹" }
                }
                a.step href=(view.link("/", &[("day", &today.iso())])) { (view.text(texts::TODAY)) }
                @if let Some(next) = month.next() {
                    a.step rel="next" href=(view.link("/", &[("month", &next.iso())])) aria-label=(view.text(texts::NEXT_MONTH)) { "›" }
                }
            }
            table.grid data-grid {
                caption { (view.text(texts::STREAMS_OF_MONTH)) }
                thead {
                    tr {
                        @for (short, long) in weekdays(texts::WEEKDAYS).into_iter().zip(weekdays(texts::LONG_WEEKDAYS)) {
                            th scope="col" abbr=(long) { (short) }
                        }
                    }
                }
                tbody {
                    @for week in days.chunks(7) {
                        tr {
                            @for cell in week {
                                @match cell {
                                    Some(date) => td { (cell_of(view, *date, *today, day.day, counts, most)) },
                                    None => td.outside {},
                                }
                            }
                            @for _ in week.len()..7 { td.outside {} }
                        }
                    }
                }
            }
            form.go action="/" method="get" {
                label for="go-day" { (view.text(texts::GO_TO_DAY)) }
                input #go-day name="day" type="date" value=(day.day.iso()) min="0000-01-01" max="9999-12-31" required;
                @if view.is_chosen { input type="hidden" name="lang" value=(view.language.tag()); }
                button type="submit" { (view.text(texts::GO)) }
            }
        }
    }
}

fn cell_of(view: &View, date: Day, today: Day, shown: Day, counts: &BTreeMap<Day, u64>, most: u64) -> Markup {
    let count = counts.get(&date).copied().unwrap_or(0);
    let label = format!("{}, {}", when::in_words(date, view.language), view.streams(count));
    html! {
        a href=(view.link("/", &[("day", &date.iso())])) data-level=(level(count, most)) data-day=(date.weekday())
            data-today[date == today] aria-current=[(date == shown).then_some("date")] aria-label=(label) {
            span.number { (when::number(date)) }
            span.count { @if count > 0 { (count) } }
        }
    }
}

/// The intensity of a count, from 0, none, to 4, the highest of the month.
fn level(count: u64, most: u64) -> u64 {
    if most == 0 { 0 } else { count.saturating_mul(4).div_ceil(most).min(4) }
}

fn day(view: &View, shown: &DayView) -> Markup {
    let mut hours: BTreeMap<Option<String>, Vec<&Holodule>> = BTreeMap::new();
    for holodule in &shown.holodules {
        let hour = holodule.starts_at().and_then(|at| at.collector().get(11..13).map(str::to_owned));
        hours.entry(hour).or_default().push(holodule);
    }
    let untimed = hours.remove(&None);
    let busiest = hours.values().map(Vec::len).max().unwrap_or(0) as u64;
    let step = |days: i64, relation: &'static str, label, sign: &'static str| {
        let day = shown.day.checked_add(days);
        html! {
            @if let Some(day) = day {
                a.step rel=(relation) href=(view.link("/", &[("day", &day.iso())])) aria-label=(view.text(label)) { (sign) }
            }
        }
    };
    html! {
        section.day aria-labelledby="day" {
            div.heading {
                h2 #day { (when::in_words(shown.day, view.language)) }
                p.total { (view.streams(shown.total)) }
                div.steps {
                    (step(-1, "prev", texts::PREVIOUS_DAY, "‹"))
                    (step(1, "next", texts::NEXT_DAY, "›"))
                    button.primary type="button" data-add=(shown.day.iso()) { (view.text(texts::ADD_STREAM)) }
                }
            }
            @if shown.unreadable > 0 {
                p.notice { (view.fill(texts::UNREADABLE, &[("count", &shown.unreadable.to_string())])) }
            }
            @if shown.holodules.is_empty() {
                p.empty { (view.text(texts::NO_STREAMS)) }
            } @else {
                nav.hours aria-label=(view.text(texts::HOURS)) {
                    ol {
                        @for hour in (0..24).map(|hour| format!("{hour:02}")) {
                            @let count = hours.get(&Some(hour.clone())).map_or(0, Vec::len) as u64;
                            li data-level=(level(count, busiest)) {
                                @if count > 0 {
                                    a href=(format!("#h{hour}")) aria-label=(hour_label(view, &hour, count)) { (hour) }
                                } @else { span { (hour) } }
                            }
                        }
                    }
                }
                @for (hour, holodules) in &hours {
                    @let hour = hour.as_deref().unwrap_or_default();
                    (group(view, &format!("h{hour}"), &view.fill(texts::HOUR, &[("hour", hour)]), holodules))
                }
                @if let Some(holodules) = untimed {
                    (group(view, "untimed", view.text(texts::UNTIMED), &holodules))
                }
            }
            @if let Some(later) = &shown.later {
                p { a.step href=(view.link("/", &[("day", &shown.day.iso()), ("from", later)])) { (view.text(texts::LATER)) } }
            }
        }
    }
}

fn hour_label(view: &View, hour: &str, count: u64) -> String {
    format!("{}, {}", view.fill(texts::HOUR, &[("hour", hour)]), view.streams(count))
}

fn group(view: &View, id: &str, heading: &str, holodules: &[&Holodule]) -> Markup {
    html! {
        div.hour {
            h3 id=(id) tabindex="-1" { (heading) }
            ol.entries { @for holodule in holodules { (entry(view, holodule, false)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_relative_to_the_highest() {
        assert_eq!([0, 1, 25, 26, 99, 100].map(|count| level(count, 100)), [0, 1, 1, 2, 4, 4]);
        assert_eq!(level(0, 0), 0);
    }

    #[test]
    fn weeks_begin_as_in_the_language() {
        let day = Day::parse("20201209").unwrap();
        for (language, first, blanks) in [(Language::English, ">Mon<", 1), (Language::Japanese, ">日<", 2)] {
            let view = View { language, is_chosen: false, path: "/".to_owned(), query: Vec::new() };
            let shown = DayView { day, total: 0, holodules: Vec::new(), unreadable: 0, later: None };
            let month = Month::of(day).unwrap();
            let page = calendar(&view, &Calendar { today: day, month, counts: BTreeMap::new(), day: shown });
            let table = page.split("<tbody>").collect::<Vec<_>>();
            assert!(table[0].rsplit("<thead>").next().unwrap().split("<th").nth(1).unwrap().contains(first));
            let week = table[1].split("</tr>").next().unwrap();
            assert_eq!(week.matches("outside").count(), blanks, "1 December 2020 was a Tuesday");
        }
    }
}
