//! `user add|passwd|disable|enable|delete|list|role`.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use bytes::Bytes;
use holodule_settings::Output;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::cli::{RoleCommand, UserCommand};
use super::client::Client;
use super::{CommandError, done, report};
use crate::password::PASSWORD_LIMIT;

const JSON: &str = "application/json";

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[derive(Deserialize)]
struct UserListBody {
    users: Vec<UserBody>,
}

#[derive(Deserialize)]
struct UserBody {
    username: String,
    disabled: bool,
    password: Option<String>,
    /// Null if the stored roles cannot be read; missing in the responses of older versions.
    #[serde(default = "no_roles")]
    roles: Option<Vec<String>>,
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field")]
fn no_roles() -> Option<Vec<String>> {
    Some(Vec::new())
}

pub(super) async fn run(client: &Client, command: UserCommand) -> Result<ExitCode, CommandError> {
    match command {
        UserCommand::Add { name } => {
            let password = read_password()?;
            let body = json!({ "username": name, "password": password });
            client.send(Method::POST, "/users", JSON, bytes(&body)).await?;
            done(format_args!("{name:?} was added"))
        }
        UserCommand::Passwd { name } => {
            let password = read_password()?;
            let path = format!("{}/password", path(&name));
            client.send(Method::PUT, &path, JSON, bytes(&json!({ "password": password }))).await?;
            done(format_args!("{name:?} has a new password"))
        }
        UserCommand::Disable { name } => set_disabled(client, &name, true).await,
        UserCommand::Enable { name } => set_disabled(client, &name, false).await,
        UserCommand::Delete { name } => {
            client.send(Method::DELETE, &path(&name), JSON, Bytes::new()).await?;
            done(format_args!("{name:?} was deleted"))
        }
        UserCommand::List => list(client).await,
        UserCommand::Role { command } => role(client, command).await,
    }
}

async fn list(client: &Client) -> Result<ExitCode, CommandError> {
    let UserListBody { users } = client.json(Method::GET, "/users", JSON, Bytes::new()).await?;
    let mut out = Output::standard();
    for UserBody { username, disabled, password, roles } in users {
        let state = if disabled { "disabled" } else { "enabled" };
        // Older names were never validated and may contain terminal control sequences.
        let username = username.escape_debug();
        write!(out, "{username}\t{state}\t{}", password.as_deref().unwrap_or("none"))?;
        match roles {
            Some(roles) if roles.is_empty() => writeln!(out)?,
            Some(roles) => writeln!(out, "\t{}", roles.join(" "))?,
            None => {
                writeln!(out)?;
                report(format_args!("the stored roles of \"{username}\" cannot be read: the user has none"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn role(client: &Client, command: RoleCommand) -> Result<ExitCode, CommandError> {
    match command {
        RoleCommand::Add { name, roles } => {
            let edit = bytes(&json!({ "add": roles }));
            client.send(Method::PATCH, &roles_path(&name), JSON, edit).await?;
            done(format_args!("{name:?} has the added roles"))
        }
        RoleCommand::Remove { name, roles } => {
            let edit = bytes(&json!({ "remove": roles }));
            client.send(Method::PATCH, &roles_path(&name), JSON, edit).await?;
            done(format_args!("{name:?} no longer has the removed roles"))
        }
        RoleCommand::Set { name, roles } => {
            client.send(Method::PUT, &roles_path(&name), JSON, bytes(&json!(roles))).await?;
            done(format_args!("{name:?} has new roles"))
        }
        RoleCommand::List { name } => {
            let roles: Vec<String> = client.json(Method::GET, &roles_path(&name), JSON, Bytes::new()).await?;
            let mut out = Output::standard();
            for role in roles {
                writeln!(out, "{role}")?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn set_disabled(client: &Client, name: &str, disabled: bool) -> Result<ExitCode, CommandError> {
    client.send(Method::PATCH, &path(name), JSON, bytes(&json!({ "disabled": disabled }))).await?;
    done(format_args!("{name:?} is {}", if disabled { "disabled" } else { "enabled" }))
}

fn path(name: &str) -> String {
    format!("/users/{}", utf8_percent_encode(name, SEGMENT))
}

fn roles_path(name: &str) -> String {
    format!("{}/roles", path(name))
}

fn bytes(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

/// Reads a password: prompted for twice on a terminal, otherwise one line of standard input.
fn read_password() -> Result<String, CommandError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return read_line(stdin.lock());
    }
    let password = rpassword::prompt_password("Password: ")?;
    if password != rpassword::prompt_password("Repeat the password: ")? {
        return Err("the passwords differ; nothing was changed".into());
    }
    Ok(password)
}

fn read_line(input: impl BufRead) -> Result<String, CommandError> {
    let mut line = String::new();
    // Slightly more than the limit, so that the server can report that it is too long.
    input.take(PASSWORD_LIMIT as u64 + 3).read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err("no password on standard input".into());
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        assert_eq!(read_line(&b"pass word\r\nmore"[..]).unwrap(), "pass word");
        assert_eq!(read_line(&b"password"[..]).unwrap(), "password");
        assert!(read_line(&b"\n"[..]).is_err());
        assert!(read_line(&b""[..]).is_err());
        assert_eq!(read_line(&[b'x'; 5000][..]).unwrap().len(), PASSWORD_LIMIT + 3);
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(path("a/b c%é"), "/users/a%2Fb%20c%25%C3%A9");
        assert_eq!(path(".."), "/users/..");
    }
}
