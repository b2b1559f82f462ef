//! The routes of a configuration without `[[route]]`: what the backend serves on its api listener.

use super::{Bounds, Limit, LimitBy, Query, Settings};
use crate::compress::Encoding;
use crate::limit::Quota;

/// The purge key of all lists. The backend publishes a purge of this path after each change.
const LISTS: &str = "/holodules";

/// The maximum size of the body that creates a calendar, in bytes.
const MAX_FILTER_BYTES: u64 = 64 * 1024;

/// The limit on searches by one identity. The backend has no index for them.
const SEARCHES: Quota = Quota { rate: 1, burst: 20 };

/// The limit on requests of one identity for its calendar feeds: enough to create as many as a user can have, and to list
/// them. The first read of a new feed is a write of the backend, whose number is limited for all users together.
const CALENDARS: Quota = Quota { rate: 1, burst: 30 };

/// The limit on requests for one calendar feed, from all addresses together. Calendar services send far fewer.
const FEED_REQUESTS: Quota = Quota { rate: 1, burst: 30 };

/// The default routes, in their order.
pub fn default_routes() -> Vec<Settings> {
    let list = |name, path| Settings {
        purge_key: Some(LISTS.to_owned()),
        // Unknown parameters are forwarded too: the backend refuses them.
        query: Query::All,
        ..shared(name, path)
    };
    let searched = |settings: Settings, query: &str| {
        let limit = Limit { quota: SEARCHES, by: LimitBy::Identity, query: Some(query.to_owned()) };
        Settings { bounds: Bounds { limit: Some(limit), ..Bounds::default() }, ..settings }
    };
    let by_id = |name, path| Settings { query: Query::default(), ..list(name, path) };
    vec![
        // Before `/holodules/{day}`, whose pattern matches this path too.
        Settings {
            aliases: vec!["/Holodules/stream".to_owned()],
            query: Query::All,
            shared: true,
            fan_out: true,
            tickets: true,
            ..route("live", &["GET"], "/holodules/stream")
        },
        Settings { aliases: vec!["/Holodules/{day}".to_owned()], ..shared("holodules", "/holodules/{day}") },
        searched(list("holodule_list", "/holodules"), "q"),
        list("now", "/now"),
        list("streamers", "/streamers"),
        by_id("streamer", "/streamers/{id}"),
        searched(list("streamer_holodules", "/streamers/{code}/holodules"), "q"),
        searched(list("schedules", "/schedules"), "keyword"),
        by_id("schedule", "/schedules/{id}"),
        Settings {
            bounds: Bounds {
                max_body_bytes: Some(MAX_FILTER_BYTES),
                limit: Some(Limit { quota: CALENDARS, by: LimitBy::Identity, query: None }),
                ..Bounds::default()
            },
            ..route("calendars", &["GET", "HEAD", "POST"], "/calendar")
        },
        // Before `/calendar/{id}`, whose pattern matches this path too.
        Settings {
            public: true,
            secret_path: true,
            bounds: Bounds {
                limit: Some(Limit { quota: FEED_REQUESTS, by: LimitBy::Path, query: None }),
                ..Bounds::default()
            },
            // The secret is in the path only, and the body repeats nothing of the request.
            compress: all_encodings(),
            ..route("calendar_feed", &["GET", "HEAD"], "/calendar/{key}.ics")
        },
        // Secret too: a client may send the key of a feed without `.ics`.
        Settings { secret_path: true, ..route("calendar", &["DELETE"], "/calendar/{id}") },
        shared("openapi", "/openapi.json"),
        shared("docs", "/docs/{*rest}"),
        // The backend redirects it to the reference.
        shared("docs_without_slash", "/docs"),
    ]
}

fn route(name: &str, methods: &[&str], path: &str) -> Settings {
    let methods = methods.iter().map(|&method| method.to_owned()).collect();
    Settings { name: Some(name.to_owned()), methods, path: path.to_owned(), ..Settings::default() }
}

/// A route with the same response for every principal.
fn shared(name: &str, path: &str) -> Settings {
    Settings { shared: true, compress: all_encodings(), ..route(name, &["GET", "HEAD"], path) }
}

fn all_encodings() -> Vec<String> {
    Encoding::ALL.map(|encoding| encoding.name().to_owned()).into()
}
