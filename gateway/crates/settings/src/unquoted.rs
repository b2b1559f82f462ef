//! Recognises the most frequent mistake in TOML: text without quotes, for which the parser's message is about numbers
//! or arrays.

use std::ops::Range;

use toml::Table;

/// Replaces the parser's message. It contains nothing from the file.
const NEEDS_QUOTES: &str = "a text value must be in quotes, as in https_addr = \"0.0.0.0:443\"";

/// The message if the line at `span` assigns text without quotes.
pub(crate) fn hint(text: &str, span: Option<Range<usize>>) -> Option<&'static str> {
    let at = span?.start;
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text.get(start..)?.lines().next()?;
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    let is_address = value.starts_with('[') && value.contains("]:");
    let is_other_kind = value.is_empty() || value.starts_with(['"', '\'', '{', '[', '#']);
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-._eE".contains(&byte));
    let may_be_text = is_address || !(is_other_kind || is_number && value.matches('.').count() < 3);
    // Quotes only help if the rest of the line is valid.
    let is_fixed = format!("{key} = \"\"").parse::<Table>().is_ok() && line.parse::<Table>().is_err();
    (may_be_text && is_fixed).then_some(NEEDS_QUOTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint for a file with `line` between two valid ones.
    fn hint_for(line: &str) -> Option<&'static str> {
        let text = format!("first = 1\n{line}\nlast = 'x'\n");
        hint(&text, text.parse::<Table>().err()?.span())
    }

    #[test]
    fn a_text_without_quotes_is_recognised() {
        for line in [
            "https_addr = 0.0.0.0:443",
            "https_addr=0.0.0.0",
            "https_addr = 127.0.0.1:8443 # here",
            "https_addr = [::]:443",
            "  api = localhost:8080",
            "api = unix:/run/backend.sock",
            "certificate = /etc/holodule/cert.pem",
            "when_stale = refuse",
            "level = info",
        ] {
            assert_eq!(hint_for(line), Some(NEEDS_QUOTES), "{line}");
        }
    }

    #[test]
    fn other_mistakes_have_the_parsers_message() {
        for line in [
            "rate = 1_000_",
            "rate = 1.5.",
            "rate =",
            "hosts = ['a'",
            "hosts = [a]",
            "name = 'unfinished",
            "name = \"unfinished",
            "table = { a = 1",
            "a b = c",
            "no assignment",
            "[section",
        ] {
            assert!(format!("{line}\n").parse::<Table>().is_err(), "{line}");
            assert_eq!(hint_for(line), None, "{line}");
        }
        assert_eq!(hint_for("rate = 7"), None);
    }
}
