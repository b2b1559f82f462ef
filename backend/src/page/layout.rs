//! The frame of every view: the head of the document, the menu, and the regions that scripts fill.

use maud::{DOCTYPE, Markup, html};

use super::language::Language;
use super::texts::{self, Text};
use super::view::View;
use super::{assets, forms, reasons, record_form};

/// The entries of the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Calendar,
    Search,
    Transfer,
    Users,
    Duplicates,
    Health,
}

impl Section {
    const ALL: [Self; 6] = [Self::Calendar, Self::Search, Self::Transfer, Self::Users, Self::Duplicates, Self::Health];

    fn path(self) -> &'static str {
        match self {
            Self::Calendar => "/",
            Self::Search => "/page/search",
            Self::Transfer => "/page/transfer",
            Self::Users => "/page/users",
            Self::Duplicates => "/page/duplicates",
            Self::Health => "/page/health",
        }
    }

    pub(super) fn title(self) -> Text {
        match self {
            Self::Calendar => texts::CALENDAR,
            Self::Search => texts::SEARCH,
            Self::Transfer => texts::TRANSFER,
            Self::Users => texts::USERS,
            Self::Duplicates => texts::DUPLICATES,
            Self::Health => texts::HEALTH,
        }
    }
}

/// The document of a view. `dialogs` are outside the content, which scripts replace after a change.
pub(super) fn document(
    view: &View,
    section: Option<Section>,
    title: &str,
    content: &Markup,
    dialogs: &Markup,
) -> String {
    let document = html! {
        (DOCTYPE)
        html lang=(view.language.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (view.text(texts::TITLE)) }
                link rel="icon" type="image/svg+xml" href=(assets::path("icon.svg"));
                link rel="stylesheet" href=(assets::path("page.css"));
                noscript { link rel="stylesheet" href=(assets::path("noscript.css")); }
                script type="module" src=(assets::path("main.js")) {}
            }
            body data-texts=(texts::for_scripts(view.language)) {
                a.skip href="#main" { (view.text(texts::SKIP)) }
                (header(view, section))
                noscript { p.notice { (view.text(texts::NO_SCRIPT)) } }
                main #main tabindex="-1" { (content) }
                div #toasts role="region" aria-live="polite" aria-label=(view.text(texts::NOTIFICATIONS)) {}
                (record_form::dialog(view))
                (forms::confirmation(view))
                (dialogs)
            }
        }
    };
    document.into_string()
}

fn header(view: &View, current: Option<Section>) -> Markup {
    html! {
        header.bar {
            a.brand href=(view.link("/", &[])) { span aria-hidden="true" { "▶ " } (view.text(texts::TITLE)) }
            nav aria-label=(view.text(texts::MAIN_MENU)) {
                ul {
                    @for section in Section::ALL {
                        li {
                            a href=(view.link(section.path(), &[]))
                                aria-current=[(current == Some(section)).then_some("page")] {
                                (view.text(section.title()))
                            }
                        }
                    }
                }
            }
            nav.languages aria-label=(view.text(texts::LANGUAGE)) {
                ul {
                    @for language in Language::ALL {
                        li {
                            a href=(view.in_language(language)) lang=(language.tag()) hreflang=(language.tag())
                                aria-current=[(language == view.language).then_some("true")] {
                                (language.name())
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The document of an error.
pub(crate) fn failure(view: &View, description: &str) -> String {
    let content = html! {
        section {
            h1 { (view.text(texts::FAILED)) }
            p { (reasons::translate(view.language, description)) }
            p { a.step href=(view.link("/", &[])) { (view.text(texts::TO_CALENDAR)) } }
        }
    };
    document(view, None, view.text(texts::FAILED), &content, &html! {})
}
