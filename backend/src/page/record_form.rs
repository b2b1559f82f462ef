//! The dialog that adds and edits a stream.

use maud::{Markup, html};

use super::forms::{self, Field, Kind};
use super::texts::{self, Text};
use super::view::View;

const fn line(name: &'static str, label: Text, hint: Option<Text>) -> Field {
    Field { name, label, hint, kind: Kind::Line }
}

/// The fields of a stream that can be edited; scripts know them by name.
const FIELDS: [Field; 8] = [
    line("video_id", texts::VIDEO_ID, Some(texts::VIDEO_ID_HINT)),
    line("datetime", texts::STARTS, Some(texts::STARTS_HINT)),
    line("key", texts::KEY, Some(texts::KEY_HINT)),
    line("code", texts::CODE, Some(texts::CODE_HINT)),
    line("name", texts::NAME, None),
    line("url", texts::URL, Some(texts::URL_HINT)),
    Field { name: "title", label: texts::STREAM_TITLE, hint: None, kind: Kind::Lines(2) },
    Field { name: "description", label: texts::DESCRIPTION, hint: None, kind: Kind::Lines(5) },
];

/// The dialog with the form of a stream.
pub(super) fn dialog(view: &View) -> Markup {
    let heading = html! {
        h2 #record-heading data-add=(view.text(texts::ADD_STREAM)) data-edit=(view.text(texts::EDIT_STREAM)) {
            (view.text(texts::ADD_STREAM))
        }
    };
    forms::dialog(view, "record", &heading, &FIELDS, texts::SAVE)
}
