//! Names of keys and static tokens, which need no escaping in headers, logs and configuration files.

/// Maximum length of a name, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// Returns whether `text` has 1 to 64 characters of `A-Z a-z 0-9 - . _`.
pub(super) fn is_plain_name(text: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    is_plain && (1..=MAX_NAME_BYTES).contains(&text.len())
}
