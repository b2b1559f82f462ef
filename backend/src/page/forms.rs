//! Controls of forms, and the confirmation dialog.

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
    NewPassword,
}

/// A labelled control with its hint and the place of its validation message. `form` makes its ids unique.
pub(super) fn control(view: &View, form: &str, field: &Field) -> Markup {
    let id = format!("{form}-{}", field.name);
    let hint = field.hint.map(|hint| (format!("{id}-hint"), hint));
    let described = hint.iter().map(|(id, _)| format!("{id} ")).collect::<String>() + &format!("{id}-error");
    html! {
        div.field {
            label for=(id) { (view.text(field.label)) }
            @match field.kind {
                Kind::Line => {
                    input id=(id) name=(field.name) type="text" aria-describedby=(described) autocomplete="off"
                        spellcheck="false";
                }
                Kind::Lines(rows) => {
                    textarea id=(id) name=(field.name) rows=(rows) aria-describedby=(described) spellcheck="false" {}
                }
                Kind::NewPassword => {
                    input id=(id) name=(field.name) type="password" aria-describedby=(described)
                        autocomplete="new-password";
                }
            }
            p.error id=(format!("{id}-error")) hidden {}
            @if let Some((id, hint)) = hint {
                p.hint id=(id) { (view.text(hint)) }
            }
        }
    }
}

/// A dialog with a form, whose id is that of its fields.
pub(super) fn dialog(view: &View, id: &str, heading: &Markup, fields: &[Field], submit: Text) -> Markup {
    html! {
        dialog id=(id) aria-labelledby=(format!("{id}-heading")) {
            form method="dialog" novalidate {
                (heading)
                p.error role="alert" data-form-error hidden {}
                div.fields { @for field in fields { (control(view, id, field)) } }
                div.buttons {
                    button type="button" data-close { (view.text(texts::CANCEL)) }
                    button.primary type="submit" { (view.text(submit)) }
                }
            }
        }
    }
}

/// The confirmation dialog, whose texts are those of the question.
pub(super) fn confirmation(view: &View) -> Markup {
    html! {
        dialog #confirm role="alertdialog" aria-labelledby="confirm-heading" aria-describedby="confirm-text" {
            form method="dialog" {
                h2 #confirm-heading {}
                p #confirm-text {}
                div.buttons {
                    button type="button" data-close { (view.text(texts::CANCEL)) }
                    button.danger type="submit" value="confirmed" {}
                }
            }
        }
    }
}
