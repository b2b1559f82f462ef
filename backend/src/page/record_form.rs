//! The dialogs that add, edit and delete a stream.

use maud::{Markup, html};

use super::texts::{self, Text};
use super::view::View;

/// A field of a form.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) label: Text,
    pub(super) hint: Option<Text>,
    pub(super) kind: Kind,
}

/// The control of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Line,
    Lines(u8),
}

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
    Field { name: "title", label: texts::STREAM_TITLE, hint: None, kind: Kind::Lines(2) },
    line("url", texts::URL, Some(texts::URL_HINT)),
    Field { name: "description", label: texts::DESCRIPTION, hint: None, kind: Kind::Lines(5) },
];

/// A labelled control with its hint and the place of its validation message. `form` makes its ids unique.
pub(super) fn control(view: &View, form: &str, field: &Field) -> Markup {
    let id = format!("{form}-{}", field.name);
    let hint = field.hint.map(|hint| (format!("{id}-hint"), hint));
    let described = hint.iter().map(|(id, _)| format!("{id} ")).collect::<String>() + &format!("{id}-error");
    html! {
        div.field {
            label for=(id) { (view.say(field.label)) }
            @match field.kind {
                Kind::Line => {
                    input id=(id) name=(field.name) type="text" aria-describedby=(described) autocomplete="off" spellcheck="false";
                }
                Kind::Lines(rows) => {
                    textarea id=(id) name=(field.name) rows=(rows) aria-describedby=(described) {}
                }
            }
            p.error id=(format!("{id}-error")) hidden {}
            @if let Some((id, hint)) = hint {
                p.hint id=(id) { (view.say(hint)) }
            }
        }
    }
}

/// The dialog with the form of a stream.
pub(super) fn dialog(view: &View) -> Markup {
    html! {
        dialog #record aria-labelledby="record-heading" {
            form method="dialog" novalidate {
                h2 #record-heading data-add=(view.say(texts::ADD_STREAM)) data-edit=(view.say(texts::EDIT_STREAM)) {
                    (view.say(texts::ADD_STREAM))
                }
                p.error role="alert" data-form-error hidden {}
                div.fields { @for field in &FIELDS { (control(view, "record", field)) } }
                (buttons(view, texts::SAVE))
            }
        }
    }
}

/// The last row of a form in a dialog.
pub(super) fn buttons(view: &View, submit: Text) -> Markup {
    html! {
        div.buttons {
            button type="button" data-close { (view.say(texts::CANCEL)) }
            button.primary type="submit" { (view.say(submit)) }
        }
    }
}

/// The dialog that asks for a confirmation.
pub(super) fn confirmation(view: &View) -> Markup {
    html! {
        dialog #confirm role="alertdialog" aria-labelledby="confirm-heading" aria-describedby="confirm-text" {
            form method="dialog" {
                h2 #confirm-heading { (view.say(texts::CONFIRM_DELETE)) }
                p #confirm-text {}
                div.buttons {
                    button type="button" data-close { (view.say(texts::CANCEL)) }
                    button.danger type="submit" value="confirmed" { (view.say(texts::DELETE)) }
                }
            }
        }
    }
}
