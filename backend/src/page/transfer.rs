//! Import and export of files.

use maud::html;

use super::layout::{Section, document};
use super::texts;
use super::view::View;

/// The exports: address and label.
const EXPORTS: [(&str, texts::Text); 4] = [
    ("/holodules?format=csv", texts::EXPORT_CSV),
    ("/holodules?format=csv&spreadsheet=true", texts::EXPORT_SPREADSHEET),
    ("/holodules?format=json", texts::EXPORT_JSON),
    ("/holodules?format=ndjson", texts::EXPORT_NDJSON),
];

/// The document with both.
pub(crate) fn transfer(view: &View) -> String {
    let content = html! {
        h1 { (view.text(texts::TRANSFER)) }
        section.import aria-labelledby="import" {
            h2 #import { (view.text(texts::IMPORT)) }
            div.drop data-drop {
                label for="file" { (view.text(texts::FILE)) }
                input #file type="file" accept=".csv,.json,.ndjson,.jsonl,text/csv,application/json" aria-describedby="file-hint";
                p.hint #file-hint { (view.text(texts::FILE_HINT)) }
            }
            div #progress hidden {
                label for="progress-bar" { (view.text(texts::PROGRESS)) }
                progress #progress-bar value="0" max="1" {}
                span #progress-text {}
                button #cancel type="button" { (view.text(texts::CANCEL_IMPORT)) }
            }
            p #import-result role="status" tabindex="-1" {}
            div #rejects hidden {
                h3 #rejects-heading tabindex="-1" { (view.text(texts::REJECTS)) }
                p.hint { (view.text(texts::REJECTS_HINT)) }
                form #rejects-form {
                    div.scroll role="region" aria-labelledby="rejects-heading" tabindex="0" {
                        table.list { thead {} tbody {} }
                    }
                    p.notice #rejects-more hidden {}
                    div.buttons { button.primary type="submit" { (view.text(texts::SEND_AGAIN)) } }
                }
            }
        }
        section aria-labelledby="export" {
            h2 #export { (view.text(texts::EXPORT)) }
            p.hint { (view.text(texts::EXPORT_HINT)) }
            ul.downloads {
                @for (address, label) in EXPORTS {
                    li { a.step href=(address) download { (view.text(label)) } }
                }
            }
        }
    };
    document(view, Some(Section::Transfer), view.text(texts::TRANSFER), &content, &html! {})
}
