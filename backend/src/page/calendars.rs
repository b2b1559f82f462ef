//! The calendar feeds of a user.

use maud::{Markup, html};

use super::layout::{Section, document};
use super::texts;
use super::view::View;
use crate::model::{Calendar, Filter, WallClock};

/// The document of the feeds of a user.
pub(crate) fn calendars(view: &View, username: &str, calendars: &[Calendar]) -> String {
    let title = view.fill(texts::CALENDARS_OF, &[("name", username)]);
    let headings = [texts::LABEL, texts::FILTER, texts::CREATED_AT, texts::ACTIONS];
    let content = html! {
        section {
            div.heading {
                h1 #calendars { (title) }
                div.steps { a.step href=(view.link("/page/users", &[])) { (view.text(texts::USERS)) } }
            }
            @if calendars.is_empty() {
                p.empty { (view.text(texts::NO_CALENDARS)) }
            } @else {
                div.scroll role="region" aria-labelledby="calendars" tabindex="0" {
                    table.list {
                        thead { tr { @for heading in headings { th scope="col" { (view.text(heading)) } } } }
                        tbody { @for calendar in calendars { (row(view, username, calendar)) } }
                    }
                }
            }
        }
    };
    document(view, Some(Section::Users), &title, &content, &html! {})
}

fn row(view: &View, username: &str, calendar: &Calendar) -> Markup {
    let Calendar { id, label, filter, created_at, .. } = calendar;
    let label = label.as_deref().unwrap_or(id);
    let created_at = WallClock::at_unix(*created_at).map(WallClock::rfc3339).unwrap_or_default();
    html! {
        tr {
            th scope="row" { (label) }
            td { (filter_of(view, filter)) }
            td { time datetime=(created_at) { (created_at) } }
            td {
                div.actions {
                    button.danger type="button" data-feed-delete=(id) data-owner=(username) data-label=(label)
                        aria-label=(format!("{}: {label}", view.text(texts::DELETE))) { (view.text(texts::DELETE)) }
                }
            }
        }
    }
}

/// The values of a filter with the names of the parameters.
fn filter_of(view: &View, filter: &Filter) -> Markup {
    let Filter { codes, names, groups, tags, text: _ } = filter;
    let values = [("code", codes), ("name", names), ("group", groups), ("tag", tags)];
    let values = values.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let values: Vec<_> = values.collect();
    html! {
        @if values.is_empty() { (view.text(texts::ALL_STREAMS)) }
        @for (name, value) in values { code { (name) "=" (value) } " " }
    }
}
