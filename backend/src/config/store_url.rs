//! The URL of the store, from the settings of this service or of the original.

use std::path::PathBuf;

use holodule_settings::Source;

use crate::store::StoreUrl;

/// The default store, in the working directory.
pub const DEFAULT_STORE: &str = "embedded:holodules.redb";

/// `store`, or the original's three variables, or else the embedded store.
pub(super) fn store_url(source: &mut Source, notes: &mut Vec<String>) -> StoreUrl {
    let is_set = |text: &str| !text.is_empty();
    let store = source.secret("store").filter(|url| is_set(url.expose()));
    let user = source.get::<String>("mongodb_user").filter(|user| is_set(user));
    source.conceal("mongodb_user");
    let password = source.secret("mongodb_password").filter(|password| is_set(password.expose()));
    let host = source.get::<String>("mongodb_host").filter(|host| is_set(host));
    let url = match (store, host) {
        (Some(url), host) => {
            if host.is_some() || user.is_some() || password.is_some() {
                notes.push("store is set: mongodb_user, mongodb_password and mongodb_host are not used".to_owned());
            }
            url.expose().parse().map_err(|error| ("store", error))
        }
        (None, Some(host)) => {
            let host = host.strip_prefix("mongodb://").unwrap_or(&host).trim_end_matches('/');
            let url = match (user, password) {
                (Some(user), Some(password)) => StoreUrl::mongodb(&user, password.expose(), host),
                (None, None) => format!("mongodb://{host}/").parse(),
                (Some(_), None) => {
                    source.problem("mongodb_password", "is missing, but mongodb_user is set");
                    return fallback();
                }
                (None, Some(_)) => {
                    source.problem("mongodb_user", "is missing, but mongodb_password is set");
                    return fallback();
                }
            };
            url.map_err(|error| ("mongodb_host", error))
        }
        (None, None) if user.is_some() || password.is_some() => {
            source.problem("mongodb_host", "is missing, but mongodb_user or mongodb_password is set");
            return fallback();
        }
        (None, None) => {
            notes.push(format!("no store is configured: using {DEFAULT_STORE} in the working directory"));
            return fallback();
        }
    };
    url.unwrap_or_else(|(key, error)| {
        source.problem(key, error.to_string());
        fallback()
    })
}

fn fallback() -> StoreUrl {
    StoreUrl::Embedded(PathBuf::from(DEFAULT_STORE.trim_start_matches("embedded:")))
}
