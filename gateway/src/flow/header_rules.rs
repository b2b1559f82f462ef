//! The header rules of a route, applied to one request or response.

use http::{HeaderMap, HeaderName};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::route::HeaderRules;

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

fn removed(rules: &HeaderRules, headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| rules.removes(name)).cloned().collect()
}
