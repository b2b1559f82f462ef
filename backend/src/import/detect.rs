//! Detects the format of a file and its dialect from its beginning.

use super::{COLUMNS, Dialect, Form, records};

/// Detects the format from the first character; anything unknown is CSV.
pub fn detect_form(text: &[u8]) -> Form {
    match text.trim_ascii_start().first() {
        Some(b'[') => Form::Json,
        // A response of the api listener is an object around the array.
        Some(b'{') if is_day_response(text) => Form::Json,
        Some(b'{') => Form::Ndjson,
        _ => Form::Csv,
    }
}

/// Whether the rows are in a member `holodules`, as in responses, unlike in NDJSON.
fn is_day_response(text: &[u8]) -> bool {
    let first = text.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(first) {
        Ok(object) => object.contains_key("holodules"),
        // The object spans several lines.
        Err(_) => super::read(Form::Json, text).is_ok(),
    }
}

/// Detects the dialect of a file in this format.
pub fn detect_dialect(form: Form, text: &[u8]) -> Dialect {
    let dialect = Dialect::default();
    if form != Form::Csv {
        let alone = !text.contains(&b'\n') && text.contains(&b'\r');
        return Dialect { line_end: if alone { b'\r' } else { b'\n' }, ..dialect };
    }
    let known = |separator: char| {
        let header = records::header(text, separator);
        header.iter().filter(|column| COLUMNS.contains(&column.as_str())).count()
    };
    // The first one with the most known columns; the comma if there are none.
    let separator =
        [';', '\t'].into_iter().fold(',', |best, other| if known(other) > known(best) { other } else { best });
    Dialect { separator, line_end: records::line_end(text, separator), ..dialect }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "key,video_id,datetime,name,title,url,description";

    #[test]
    fn the_form_is_detected_from_the_content() {
        for (text, form) in [
            ("key,video_id\n", Form::Csv),
            ("", Form::Csv),
            (" [\n]", Form::Json),
            ("{\"key\":\"\"}\n{\"key\":\"\"}\n", Form::Ndjson),
            ("{\"result\":0,\"holodules\":[]}", Form::Json),
            ("{\n  \"result\": 0,\n  \"holodules\": [\n  ]\n}\n", Form::Json),
        ] {
            assert_eq!(detect_form(text.as_bytes()), form, "{text}");
        }
    }

    #[test]
    fn separators_and_line_ends_are_detected_from_the_header() {
        for (separator, end, line_end) in
            [(',', "\r\n", b'\n'), (';', "\n", b'\n'), ('\t', "\r", b'\r'), (',', "", b'\n')]
        {
            let text = format!("{}{end}a;b,c\td{end}", HEADER.replace(',', &separator.to_string()));
            let expected = Dialect { separator, line_end, ignore_unknown: false };
            assert_eq!(detect_dialect(Form::Csv, text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(detect_dialect(Form::Csv, b"a;b;c\n"), Dialect::default(), "an unknown file");
        assert_eq!(detect_dialect(Form::Ndjson, b"{}\r{}\r").line_end, b'\r');
        assert_eq!(detect_dialect(Form::Ndjson, b"{}\r\n{}\r\n").line_end, b'\n');
    }
}
