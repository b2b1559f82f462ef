//! The header rules of a route, applied to one request or response, and the cookie of a service.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, response};
use pingora::http::ResponseHeader;
use pingora::{ErrorType, OrErr as _, Result};

use crate::route::HeaderRules;
use crate::upstream::StickyCookie;

/// Applies the rules to the fields of a request.
pub(super) fn apply_to_request(rules: &HeaderRules, headers: &mut HeaderMap) {
    if rules.is_empty() {
        return;
    }
    for name in removed(rules, headers) {
        headers.remove(name);
    }
    for (name, value) in &rules.set {
        headers.insert(name.clone(), value.clone());
    }
}

/// Applies the rules to the head of a response.
///
/// # Errors
/// Does not occur: names and values are valid.
pub(super) fn apply_to_response(rules: &HeaderRules, header: &mut ResponseHeader) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    for name in removed(rules, &header.headers) {
        header.remove_header(&name);
    }
    for (name, value) in &rules.set {
        header.insert_header(name.clone(), value.clone())?;
    }
    Ok(())
}

/// Adds the cookie of the service to the response `header`, if its address was chosen for this response `parts`
/// and the response may have it.
///
/// # Errors
/// Does not occur: names and paths are valid.
pub(super) fn add_sticky_cookie(parts: &response::Parts, path: &str, header: &mut ResponseHeader) -> Result<()> {
    let Some(cookie) = parts.extensions.get::<StickyCookie>() else { return Ok(()) };
    if StickyCookie::belongs_in(&header.headers) {
        let value = cookie.set_cookie(path).or_err(ErrorType::InternalError, "a cookie that is not a field")?;
        header.append_header(SET_COOKIE, value)?;
    }
    Ok(())
}

fn removed(rules: &HeaderRules, headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| rules.removes(name)).cloned().collect()
}
