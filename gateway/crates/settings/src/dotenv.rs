//! The grammar of `.env`: that of python-dotenv, with which the original service reads its settings, so that both read
//! the same values from a file.
//!
//! What python-dotenv skips with a warning is an error here: text that cannot be parsed, and a name without `=`, which
//! it leaves without a value. Both may be part of a secret with a line break.

use std::collections::BTreeMap;

/// A name and its value before references are resolved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    /// The name.
    pub(crate) name: String,
    /// The value without quotes and escapes.
    pub(crate) value: String,
    /// The line of the name, from 1.
    pub(crate) line: usize,
}

/// A statement that cannot be parsed. Its text is not included, since it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidLine {
    /// Its first line, from 1.
    pub(crate) line: usize,
    /// The reason.
    pub(crate) reason: &'static str,
}

/// All statements of `text`, in order.
pub(crate) fn parse(text: &str) -> Vec<Result<Binding, InvalidLine>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut cursor = Cursor { rest: &text, line: 1 };
    let mut statements = Vec::new();
    loop {
        cursor.skip(is_space);
        if cursor.rest.is_empty() {
            return statements;
        }
        let line = cursor.line;
        match cursor.statement() {
            Ok(Some((name, value))) => statements.push(Ok(Binding { name, value, line })),
            Ok(None) => {}
            Err(reason) => {
                statements.push(Err(InvalidLine { line, reason }));
                cursor.skip(|character| character != '\n');
            }
        }
    }
}

struct Cursor<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Cursor<'a> {
    /// Parses one statement up to the end of its line; `None` for a comment. After an error, the rest of the line
    /// belongs to the statement.
    fn statement(&mut self) -> Result<Option<(String, String)>, &'static str> {
        if let Some(after) = self.rest.strip_prefix("export").filter(|after| after.starts_with(is_blank)) {
            self.rest = after;
            self.skip(is_blank);
        }
        let name = self.name()?;
        self.skip(is_blank);
        let value = match (self.rest.strip_prefix('='), &name) {
            (Some(after), Some(_)) => {
                self.rest = after;
                Some(self.value()?)
            }
            _ => None,
        };
        let before_comment = self.rest.trim_start_matches(is_blank);
        if before_comment.starts_with('#') {
            self.skip(|character| character != '\n');
        }
        let after = self.rest.trim_start_matches(is_blank);
        if !after.is_empty() && !after.starts_with('\n') {
            return Err(if value.is_some() { "has text after the closing quote" } else { "has no `=` after a name" });
        }
        self.skip(is_blank);
        match (name, value) {
            (None, _) => Ok(None),
            (Some(name), Some(value)) => Ok(Some((name, value))),
            (Some(_), None) => Err("has no `=`"),
        }
    }

    /// The name, optionally in single quotes; `None` at a comment.
    fn name(&mut self) -> Result<Option<String>, &'static str> {
        if self.rest.starts_with('#') {
            return Ok(None);
        }
        if let Some(quoted) = self.rest.strip_prefix('\'') {
            let (name, _) = quoted.split_once('\'').filter(|(name, _)| !name.is_empty()).ok_or("has no name")?;
            let name = name.to_owned();
            self.advance(name.len() + 2);
            return Ok(Some(name));
        }
        let end = self.rest.find(|character| is_space(character) || matches!(character, '=' | '#'));
        let name = self.rest.get(..end.unwrap_or(self.rest.len())).unwrap_or_default();
        if name.is_empty() {
            return Err("has no name");
        }
        self.advance(name.len());
        Ok(Some(name.to_owned()))
    }

    fn value(&mut self) -> Result<String, &'static str> {
        let blanks = self.rest.len();
        self.skip(is_blank);
        let has_blanks = self.rest.len() < blanks;
        match self.rest.chars().next() {
            // Directly after the `=` it is part of the value.
            Some('#') if has_blanks => Ok(String::new()),
            Some(quote @ ('\'' | '"')) => {
                let text = quoted(self.rest, quote).ok_or("has an unclosed quote")?;
                self.advance(text.len() + 2);
                Ok(unescape(text, if quote == '"' { decode_double } else { decode_single }))
            }
            _ => {
                let line = self.rest.split('\n').next().unwrap_or_default();
                self.advance(line.len());
                Ok(without_comment(line).trim_end_matches(is_space).to_owned())
            }
        }
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        let rest = self.rest.trim_start_matches(is_skipped);
        self.advance(self.rest.len() - rest.len());
    }

    fn advance(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }
}

/// What Python's `\s` matches.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn is_blank(character: char) -> bool {
    is_space(character) && character != '\n'
}

/// The text between the quote at the start of `rest` and the next unescaped one.
fn quoted(rest: &str, quote: char) -> Option<&str> {
    let text = rest.strip_prefix(quote)?;
    let mut is_escaped = false;
    for (place, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return text.get(..place),
            _ => {}
        }
    }
    None
}

/// `line` up to the first `#` after white space.
fn without_comment(line: &str) -> &str {
    let comment = line.match_indices('#').find_map(|(place, _)| {
        let before = line.get(..place)?;
        let trimmed = before.trim_end_matches(is_space);
        (trimmed.len() < before.len()).then_some(trimmed)
    });
    comment.unwrap_or(line)
}

/// Replaces the escapes known to `decode`; others are unchanged.
fn unescape(text: &str, decode: impl Fn(char) -> Option<char>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let decoded = if character == '\\' { characters.peek().and_then(|next| decode(*next)) } else { None };
        if decoded.is_some() {
            characters.next();
        }
        plain.push(decoded.unwrap_or(character));
    }
    plain
}

fn decode_single(character: char) -> Option<char> {
    matches!(character, '\\' | '\'').then_some(character)
}

fn decode_double(character: char) -> Option<char> {
    Some(match character {
        '\\' | '\'' | '"' => character,
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        _ => return None,
    })
}

/// The values by name, a later one replacing an earlier one. `${NAME}` and `${NAME:-default}` are replaced by the
/// variable of `process`, else by the value earlier in the file, else by the default, else by nothing. This also
/// applies in quotes.
///
/// The second part has the lines that refer to a name without a value or default.
pub(crate) fn resolve(
    bindings: Vec<Binding>,
    process: impl Fn(&str) -> Option<String>,
) -> (BTreeMap<String, String>, Vec<usize>) {
    let mut values = BTreeMap::new();
    let mut undefined = Vec::new();
    for Binding { name, value, line } in bindings {
        let mut resolved = String::with_capacity(value.len());
        let mut rest = value.as_str();
        while let Some((before, place)) = next_reference(rest) {
            resolved.push_str(before);
            rest = place.rest;
            match process(place.name).or_else(|| values.get(place.name).cloned()) {
                Some(found) => resolved.push_str(&found),
                None => {
                    resolved.push_str(place.default.unwrap_or_default());
                    if place.default.is_none() && undefined.last() != Some(&line) {
                        undefined.push(line);
                    }
                }
            }
        }
        resolved.push_str(rest);
        values.insert(name, resolved);
    }
    (values, undefined)
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    rest: &'a str,
}

/// The next reference in `text`, with the text before it.
fn next_reference(text: &str) -> Option<(&str, Reference<'_>)> {
    text.match_indices("${").find_map(|(place, opening)| {
        let (inner, rest) = text.get(place + opening.len()..)?.split_once('}')?;
        let (name, default) = match inner.split_once(':') {
            None => (inner, None),
            Some((name, after)) => (name, Some(after.strip_prefix('-')?)),
        };
        Some((text.get(..place)?, Reference { name, default, rest }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `text` if the process has the variable `SHELL_NAME`, and the lines that cannot be parsed.
    fn read(text: &str) -> (Vec<(String, String)>, Vec<usize>) {
        let (bindings, unreadable): (Vec<_>, Vec<_>) = parse(text).into_iter().partition(Result::is_ok);
        let process = |name: &str| (name == "SHELL_NAME").then(|| "shell".to_owned());
        let (values, _) = resolve(bindings.into_iter().map(Result::unwrap).collect(), process);
        (values.into_iter().collect(), unreadable.into_iter().map(|error| error.unwrap_err().line).collect())
    }

    fn value(text: &str) -> String {
        let (values, unreadable) = read(text);
        assert_eq!(unreadable, [0; 0], "{text:?}");
        values.into_iter().find(|(name, _)| name == "A").unwrap().1
    }

    #[test]
    fn a_value_is_what_python_dotenv_reads() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A=", ""),
            (" A = b c \n", "b c"),
            ("export\tA=b", "b"),
            ("'A'=b", "b"),
            ("A=b#c", "b#c"),
            ("A=b #c", "b"),
            ("A=#c", "#c"),
            ("A= #c", ""),
            ("A='b #c' # d", "b #c"),
            ("A=\"b\\n\\\"c\\\"\\q\\\\\"", "b\n\"c\"\\q\\"),
            ("A='b\\n\\'c\\\\'", "b\\n'c\\"),
            ("A=b\\n\"c'", "b\\n\"c'"),
            ("A='b\r\nc'", "b\nc"),
            ("A=b\rB=c", "b"),
            ("A=b\nA=c", "c"),
            ("\u{feff}A=b", "b"),
            ("A=\u{feff}b", "\u{feff}b"),
            ("A=\u{3000}b\u{a0}", "b"),
            ("A=p$ss", "p$ss"),
            ("A=p$(ss)`x`$1", "p$(ss)`x`$1"),
            ("B=1\nA=x${B}y", "x1y"),
            ("A='${SHELL_NAME}'", "shell"),
            ("SHELL_NAME=file\nA=${SHELL_NAME}", "shell"),
            ("A=x${C}y", "xy"),
            ("A=x${C:-d e}y", "xd ey"),
            ("B=\nA=x${B:-d}y", "xy"),
            ("A=${C:d}${", "${C:d}${"),
            ("A=${B}\nB=1", ""),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn invalid_lines_are_numbered_and_the_others_are_used() {
        for (text, lines) in [
            ("A=b\n\nhush\nB=c", [3].as_slice()),
            ("=hush\nA=b", &[1]),
            ("A=b\nC='hush\nhush", &[2, 3]),
            ("C='hu\nsh' hush\nA=b", &[1]),
            ("C D=hush\nA=b\n''=hush", &[1, 3]),
            ("export C\nA=b # c\n# d", &[1]),
        ] {
            let (values, unreadable) = read(text);
            assert_eq!(unreadable, lines, "{text:?}");
            assert!(values.contains(&("A".to_owned(), "b".to_owned())) || text.starts_with("A=b\nC"), "{values:?}");
        }
    }

    #[test]
    fn an_undefined_reference_is_reported() {
        let bindings = parse("A=${B}${C}\nD=${A}${B:-}").into_iter().map(Result::unwrap).collect();
        assert_eq!(resolve(bindings, |_| None).1, [1]);
    }
}
