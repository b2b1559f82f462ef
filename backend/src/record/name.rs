//! Makes text from clients safe for log lines and responses.

/// The maximum length, in bytes; longer text is truncated.
const LIMIT: usize = 128;

/// Escapes non-printable characters, and truncates text longer than 128 bytes with an ellipsis.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LIMIT));
    for (at, character) in text.char_indices() {
        if at + character.len_utf8() > LIMIT {
            shown.push('…');
            break;
        }
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_printable_text_is_escaped_and_long_text_truncated() {
        for plain in ["", "user01", "ユーザー 01", "a\"b'c\\d", &"x".repeat(LIMIT)] {
            assert_eq!(shown(plain), plain);
        }
        assert_eq!(shown("a\n\u{1b}[31m\u{9b}\u{202e}"), "a\\n\\u{1b}[31m\\u{9b}\\u{202e}");
        assert_eq!(shown(&"x".repeat(LIMIT + 1)), format!("{}…", "x".repeat(LIMIT)));
        assert_eq!(shown(&"ユ".repeat(1000)), format!("{}…", "ユ".repeat(42)));
    }
}
