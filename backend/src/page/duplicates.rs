//! Documents that share a `video_id`.

use maud::{Markup, html};

use super::entries::entry_with;
use super::layout::{Section, document};
use super::texts;
use super::view::View;
use crate::model::{DuplicateDocument, DuplicateVideo};

/// The document of the duplicates. `more` is whether there are more videos.
pub(crate) fn duplicates(view: &View, duplicates: &[DuplicateVideo], more: bool) -> String {
    let content = html! {
        h1 { (view.text(texts::DUPLICATES)) }
        p.hint { (view.text(texts::DUPLICATES_HINT)) }
        @if duplicates.is_empty() {
            p.empty { (view.text(texts::NO_DUPLICATES)) }
        }
        @for DuplicateVideo { video_id, total, documents } in duplicates {
            @let id = format!("video-{video_id}");
            section aria-labelledby=(id) {
                h2 id=(id) {
                    code { (video_id) } " "
                    span.total { (view.fill(texts::DOCUMENTS, &[("count", &total.to_string())])) }
                }
                ol.entries { @for document in documents { (document_of(view, video_id, document)) } }
            }
        }
        @if more { p.notice { (view.text(texts::MORE_DUPLICATES)) } }
    };
    document(view, Some(Section::Duplicates), view.text(texts::DUPLICATES), &content, &html! {})
}

/// A document with a button that deletes it alone. The actions of a stream would be those of all its documents.
fn document_of(view: &View, video_id: &str, document: &DuplicateDocument) -> Markup {
    let DuplicateDocument { id, holodule } = document;
    let actions = html! {
        div.actions {
            code { (id) }
            button.danger type="button" data-duplicate-delete=(id) data-video=(video_id)
                aria-label=(format!("{}: {id}", view.text(texts::DELETE_DOCUMENT))) {
                (view.text(texts::DELETE_DOCUMENT))
            }
        }
    };
    match holodule {
        Some(holodule) => entry_with(view, holodule, true, &actions),
        None => html! { li.entry { p.notice { (view.text(texts::UNREADABLE_DOCUMENT)) } (actions) } },
    }
}
