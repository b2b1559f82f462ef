//! The users.

use maud::{Markup, html};

use super::forms::{self, Field, Kind};
use super::layout::{Section, document};
use super::texts::{self, Text};
use super::view::View;
use crate::model::{PasswordForm, UserSummary};

/// The maximum number of users that the page shows.
pub(crate) const SHOWN_USERS: usize = 1000;

const USERNAME: Field =
    Field { name: "username", label: texts::USERNAME, hint: Some(texts::USERNAME_HINT), kind: Kind::Line };
const PASSWORD: Field = Field { name: "password", label: texts::PASSWORD, hint: None, kind: Kind::NewPassword };
const ROLES: Field = Field { name: "roles", label: texts::ROLES, hint: Some(texts::ROLES_HINT), kind: Kind::Lines(5) };

/// The document of the users. `users` are the first [`SHOWN_USERS`] of `total`.
pub(crate) fn users(view: &View, users: &[UserSummary], total: usize) -> String {
    let content = html! {
        section {
            div.heading {
                h1 #users { (view.text(texts::USERS)) }
                p.total { (view.fill(texts::USERS_TOTAL, &[("count", &total.to_string())])) }
                div.steps { button.primary type="button" data-user-add { (view.text(texts::ADD_USER)) } }
            }
            @if total > users.len() {
                p.notice { (view.fill(texts::MORE_USERS, &[("count", &users.len().to_string())])) }
            }
            @if users.is_empty() {
                p.empty { (view.text(texts::NO_USERS)) }
            } @else {
                div.scroll role="region" aria-labelledby="users" tabindex="0" {
                    table.list {
                        thead {
                            tr {
                                @for heading in [texts::USERNAME, texts::STATE, texts::ROLES, texts::PASSWORD_FORM, texts::ACTIONS] {
                                    th scope="col" { (view.text(heading)) }
                                }
                            }
                        }
                        tbody { @for user in users { (row(view, user)) } }
                    }
                }
            }
        }
    };
    let dialog = |id: &str, heading: Text, fields: &[Field]| {
        let heading = html! {
            h2 id=(format!("{id}-heading")) { (view.text(heading)) " " span.whose {} }
            // For password managers, which would store the new password under another name.
            input type="text" name="subject" autocomplete="username" hidden readonly;
        };
        forms::dialog(view, id, &heading, fields, texts::SAVE)
    };
    let dialogs = html! {
        (dialog("user-add", texts::ADD_USER, &[USERNAME, PASSWORD]))
        (dialog("user-password", texts::SET_PASSWORD, &[PASSWORD]))
        (dialog("user-roles", texts::SET_ROLES, &[ROLES]))
    };
    document(view, Some(Section::Users), view.text(texts::USERS), &content, &dialogs)
}

fn row(view: &View, user: &UserSummary) -> Markup {
    let UserSummary { username, disabled, form, roles, .. } = user;
    let roles: Option<Vec<String>> = roles.clone().valid().map(Into::into);
    let label = |text: Text| format!("{}: {username}", view.text(text));
    html! {
        tr data-disabled[*disabled] {
            th scope="row" { (username) }
            td { (view.text(if *disabled { texts::DISABLED } else { texts::ENABLED })) }
            td {
                @match &roles {
                    Some(roles) => { @for role in roles { code.role { (role) } " " } },
                    None => (view.text(texts::UNREADABLE_ROLES)),
                }
            }
            td { (form_of(view, *form)) }
            td {
                div.actions {
                    button type="button" data-user-roles=(username) data-unreadable[roles.is_none()]
                        data-roles=(roles.unwrap_or_default().join("\n"))
                        aria-label=(label(texts::SET_ROLES)) { (view.text(texts::ROLES)) }
                    button type="button" data-user-password=(username) aria-label=(label(texts::SET_PASSWORD)) {
                        (view.text(texts::PASSWORD))
                    }
                    @let switch = if *disabled { texts::ENABLE } else { texts::DISABLE };
                    button type="button" data-user-switch=(username) data-disable=(!disabled)
                        aria-label=(label(switch)) { (view.text(switch)) }
                    a href=(view.link("/page/calendars", &[("user", username)])) aria-label=(label(texts::CALENDARS)) {
                        (view.text(texts::CALENDARS))
                    }
                    button.danger type="button" data-user-delete=(username) aria-label=(label(texts::DELETE)) {
                        (view.text(texts::DELETE))
                    }
                }
            }
        }
    }
}

fn form_of(view: &View, form: Option<PasswordForm>) -> &'static str {
    match form {
        Some(PasswordForm::Argon2id) => "Argon2id",
        Some(PasswordForm::Bcrypt) => "bcrypt",
        Some(PasswordForm::Pbkdf2) => "PBKDF2",
        Some(PasswordForm::Scrypt) => "scrypt",
        Some(PasswordForm::Plain) => view.text(texts::PLAIN_PASSWORD),
        Some(PasswordForm::Unsupported) | None => view.text(texts::NO_LOGIN),
    }
}
