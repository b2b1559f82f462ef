//! The state of the service.

use maud::{Markup, html};

use super::layout::{Section, document};
use super::reasons;
use super::texts::{self, Text};
use super::view::View;

/// The state that the view shows.
pub(crate) struct Health {
    /// Why the store cannot be used; `None` if it can.
    pub(crate) not_ready: Option<&'static str>,
    /// The engine of the store.
    pub(crate) engine: &'static str,
    /// Numbers of holodules and users; `None` if they cannot be read.
    pub(crate) stored: Option<(u64, u64)>,
    /// The number of `video_id`s in several documents.
    pub(crate) duplicates: u64,
    /// The number of holodules without a day.
    pub(crate) undated: u64,
    /// The version of the program.
    pub(crate) version: &'static str,
    /// Gateways that are subscribed to the feed.
    pub(crate) subscribers: usize,
    /// Seconds since the store was last read for changes; `None` before the first time.
    pub(crate) poll_age: Option<f64>,
    /// Passwords that are hashed, and those that wait.
    pub(crate) hashing: (usize, usize),
    /// Processes of earlier versions that serve their last requests.
    pub(crate) draining: usize,
}

/// The document of the state.
pub(crate) fn health(view: &View, health: &Health) -> String {
    let ready = health.not_ready.is_none();
    let row = |label: Text, value: &str| -> Markup {
        html! { div { dt { (view.text(label)) } dd { (value) } } }
    };
    let count = |value: Option<u64>| value.map_or("—".to_owned(), |value| value.to_string());
    let (running, waiting) = health.hashing;
    let content = html! {
        section aria-labelledby="health" {
            h1 #health { (view.text(texts::HEALTH)) }
            p.state data-ready[ready] {
                strong { (view.text(if ready { texts::READY } else { texts::NOT_READY })) }
                @if let Some(reason) = health.not_ready { " " (reasons::translate(view.language, reason)) }
            }
            dl.facts-list {
                (row(texts::STORE, health.engine))
                (row(texts::HOLODULES, &count(health.stored.map(|(holodules, _)| holodules))))
                (row(texts::USERS, &count(health.stored.map(|(_, users)| users))))
                (row(texts::DUPLICATES, &health.duplicates.to_string()))
                (row(texts::UNDATED, &health.undated.to_string()))
                (row(texts::SUBSCRIBERS, &health.subscribers.to_string()))
                (row(texts::POLL_AGE, &health.poll_age.map_or("—".to_owned(), |age| format!("{age:.1} s"))))
                (row(texts::HASHING, &format!("{running} / {waiting}")))
                (row(texts::DRAINING, &health.draining.to_string()))
                (row(texts::VERSION, health.version))
            }
            p.links {
                @for path in ["/readyz", "/status", "/metrics", "/upgrade"] { a href=(path) { code { (path) } } " " }
            }
        }
    };
    document(view, Some(Section::Health), view.text(texts::HEALTH), &content, &html! {})
}
