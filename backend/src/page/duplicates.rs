//! Documents that share a `video_id`.

use maud::html;

use super::entries::entry;
use super::layout::{Section, document};
use super::texts;
use super::view::View;
use crate::model::Holodule;

/// A video in several documents.
pub(crate) struct Duplicate {
    /// The `video_id`.
    pub(crate) video_id: String,
    /// The number of its documents.
    pub(crate) documents: u64,
    /// Those of them that can be read, at most as many as the handler reads.
    pub(crate) holodules: Vec<Holodule>,
}

/// The document of the duplicates. `more` is whether there are more videos.
pub(crate) fn duplicates(view: &View, duplicates: &[Duplicate], more: bool) -> String {
    let content = html! {
        h1 { (view.text(texts::DUPLICATES)) }
        p.hint { (view.text(texts::DUPLICATES_HINT)) }
        @if duplicates.is_empty() {
            p.empty { (view.text(texts::NO_DUPLICATES)) }
        }
        @for duplicate in duplicates {
            @let id = format!("video-{}", duplicate.video_id);
            section aria-labelledby=(id) {
                h2 id=(id) {
                    code { (duplicate.video_id) } " "
                    span.total { (view.fill(texts::DOCUMENTS, &[("count", &duplicate.documents.to_string())])) }
                }
                ol.entries { @for holodule in &duplicate.holodules { (entry(view, holodule, true)) } }
            }
        }
        @if more { p.notice { (view.text(texts::MORE_DUPLICATES)) } }
    };
    document(view, Some(Section::Duplicates), view.text(texts::DUPLICATES), &content, &html! {})
}
