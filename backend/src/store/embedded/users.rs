//! The table of users, by name.

use aws_lc_rs::digest;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    NewUser, PasswordForm, PasswordMark, Roles, RolesChange, SavedUser, StoredPassword, StoredRoles, StoredUser,
    UserSummary,
};
use crate::store::{RolesChanged, UserChange, can_log_in};

const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");

/// A stored user without the name. Without `Debug`, because it holds a password.
#[derive(Serialize, Deserialize)]
pub(super) struct UserRow {
    id: String,
    pub(super) password: String,
    #[serde(default)]
    pub(super) disabled: bool,
    /// Seconds since the Unix epoch.
    created_at: i64,
    /// Seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password_changed_at: Option<i64>,
    /// Random for each new password. Missing in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password_mark: Option<String>,
    /// An array of strings. Missing without roles and in records of older versions. Any other value is unreadable, but
    /// is not lost when the record is written.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    roles: Value,
}

/// The state of a user that decides about tokens.
pub(super) enum AccountState {
    Active {
        /// When the user was created or the password was last changed, in seconds since the Unix epoch.
        since: i64,
        mark: PasswordMark,
        roles: StoredRoles,
    },
    Disabled,
    /// The user does not exist or cannot log in.
    Missing,
}

impl UserRow {
    fn mark(&self) -> PasswordMark {
        // Numbers and strings can always be serialized.
        let set = (&self.id, self.created_at, self.password_changed_at, &self.password_mark);
        let text = serde_json::to_vec(&set).unwrap_or_default();
        PasswordMark::of(digest::digest(&digest::SHA256, &text).as_ref())
    }

    fn roles(&self) -> StoredRoles {
        if self.roles.is_null() {
            return StoredRoles::default();
        }
        Roles::deserialize(&self.roles).map_or(StoredRoles::Unreadable, StoredRoles::Valid)
    }
}

pub(super) fn create_table(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(USERS)?;
    Ok(())
}

pub(super) fn user(transaction: &ReadTransaction, username: &str) -> Result<Option<StoredUser>, redb::Error> {
    let Some(record) = transaction.open_table(USERS)?.get(username)? else { return Ok(None) };
    let UserRow { id, password, disabled, .. } = decode(record.value())?;
    if !can_log_in(username, &password) {
        return Ok(None);
    }
    let password = StoredPassword::new(password);
    Ok(Some(StoredUser { username: username.to_owned(), id: Some(id), password, disabled }))
}

/// The `id` of a user who can log in; the outer `None` if there is no such user.
pub(super) fn active(transaction: &WriteTransaction, username: &str) -> Result<Option<Option<String>>, redb::Error> {
    let table = transaction.open_table(USERS)?;
    let record = table.get(username)?.map(|record| decode(record.value())).transpose()?;
    let active = record.filter(|record| !record.disabled && can_log_in(username, &record.password));
    Ok(active.map(|record| Some(record.id)))
}

pub(super) fn account(transaction: &ReadTransaction, username: &str) -> Result<AccountState, redb::Error> {
    let Some(record) = transaction.open_table(USERS)?.get(username)? else { return Ok(AccountState::Missing) };
    let record = decode(record.value())?;
    if !can_log_in(username, &record.password) {
        return Ok(AccountState::Missing);
    }
    if record.disabled {
        return Ok(AccountState::Disabled);
    }
    let since = record.password_changed_at.unwrap_or(record.created_at).max(record.created_at);
    Ok(AccountState::Active { since, mark: record.mark(), roles: record.roles() })
}

pub(super) fn users(transaction: &ReadTransaction) -> Result<Vec<UserSummary>, redb::Error> {
    let mut users = Vec::new();
    for user in transaction.open_table(USERS)?.iter()? {
        let (username, record) = user?;
        let record = decode(record.value())?;
        let (username, roles) = (username.value().to_owned(), record.roles());
        let form = can_log_in(&username, &record.password).then(|| PasswordForm::of(&record.password));
        users.push(UserSummary { id: Some(record.id), username, disabled: record.disabled, form, roles });
    }
    Ok(users)
}

pub(super) fn create(
    transaction: &WriteTransaction,
    user: &NewUser,
    id: String,
    mark: String,
) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(USERS)?;
    if table.get(user.username.as_str())?.is_some() {
        return Ok(false);
    }
    let record = UserRow {
        id,
        password: user.hash.expose().to_owned(),
        disabled: false,
        created_at: user.created_at,
        password_changed_at: None,
        password_mark: Some(mark),
        roles: Value::Null,
    };
    table.insert(user.username.as_str(), encode(&record)?.as_slice())?;
    Ok(true)
}

pub(super) fn change(
    transaction: &WriteTransaction,
    username: &str,
    change: impl FnOnce(&mut UserRow),
) -> Result<UserChange, redb::Error> {
    let mut table = transaction.open_table(USERS)?;
    let Some(mut record) = table.get(username)?.map(|record| decode(record.value())).transpose()? else {
        return Ok(UserChange::NoSuchUser);
    };
    change(&mut record);
    table.insert(username, encode(&record)?.as_slice())?;
    Ok(UserChange::Done)
}

/// The roles of a user; `None` if there is no such user.
pub(super) fn roles(transaction: &ReadTransaction, username: &str) -> Result<Option<StoredRoles>, redb::Error> {
    let record = transaction.open_table(USERS)?.get(username)?;
    record.map(|record| Ok(decode(record.value())?.roles())).transpose()
}

pub(super) fn change_roles(
    transaction: &WriteTransaction,
    username: &str,
    change: &RolesChange,
) -> Result<RolesChanged, redb::Error> {
    let mut table = transaction.open_table(USERS)?;
    let Some(mut record) = table.get(username)?.map(|record| decode(record.value())).transpose()? else {
        return Ok(RolesChanged::NoSuchUser);
    };
    match change.apply(&record.roles()) {
        Ok(roles) => record.roles = encode_roles(&roles)?,
        Err(refused) => return Ok(RolesChanged::Refused(refused)),
    }
    table.insert(username, encode(&record)?.as_slice())?;
    Ok(RolesChanged::Done)
}

pub(super) fn upgrade(
    transaction: &WriteTransaction,
    username: &str,
    stored: &str,
    hash: String,
) -> Result<bool, redb::Error> {
    let mut upgraded = false;
    change(transaction, username, |record| {
        if record.password == stored {
            record.password = hash;
            upgraded = true;
        }
    })?;
    Ok(upgraded)
}

pub(super) fn delete(transaction: &WriteTransaction, username: &str) -> Result<UserChange, redb::Error> {
    let removed = transaction.open_table(USERS)?.remove(username)?.is_some();
    Ok(if removed { UserChange::Done } else { UserChange::NoSuchUser })
}

/// All users as in a backup, by name.
pub(super) fn saved(transaction: &ReadTransaction) -> Result<Vec<SavedUser>, redb::Error> {
    let mut users = Vec::new();
    for user in transaction.open_table(USERS)?.iter()? {
        let (username, record) = user?;
        let record = decode(record.value())?;
        let changed_at = record.password_changed_at.unwrap_or(record.created_at).max(record.created_at);
        let roles = match record.roles() {
            StoredRoles::Valid(roles) => roles,
            StoredRoles::Unreadable => {
                tracing::warn!(id = record.id, "the roles of a user cannot be read and are not in the backup");
                Roles::default()
            }
        };
        users.push(SavedUser {
            username: username.value().to_owned(),
            id: Some(record.id),
            password: StoredPassword::new(record.password),
            disabled: record.disabled,
            roles,
            created_at: Some(record.created_at),
            password_changed_at: Some(changed_at),
        });
    }
    Ok(users)
}

pub(super) fn is_empty(transaction: &WriteTransaction) -> Result<bool, redb::Error> {
    Ok(transaction.open_table(USERS)?.is_empty()?)
}

/// Removes all users.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.delete_table(USERS)?;
    create_table(transaction)
}

/// Stores a user of a backup, whose password counts as changed `now`.
pub(super) fn restore(
    transaction: &WriteTransaction,
    user: SavedUser,
    (new_id, mark): (String, String),
    now: i64,
) -> Result<(), redb::Error> {
    let record = UserRow {
        id: user.id.unwrap_or(new_id),
        password: user.password.expose().to_owned(),
        disabled: user.disabled,
        created_at: user.created_at.unwrap_or(now).min(now),
        password_changed_at: Some(now),
        // Tokens issued before the restore are rejected.
        password_mark: Some(mark),
        roles: encode_roles(&user.roles)?,
    };
    transaction.open_table(USERS)?.insert(user.username.as_str(), encode(&record)?.as_slice())?;
    Ok(())
}

fn decode(record: &[u8]) -> Result<UserRow, redb::Error> {
    // Without the parser's message, which may repeat a value.
    serde_json::from_slice(record).map_err(|_| redb::Error::Corrupted("a user cannot be read".to_owned()))
}

/// No roles are not stored.
fn encode_roles(roles: &Roles) -> Result<Value, redb::Error> {
    if roles.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::to_value(roles).map_err(|_| redb::Error::Corrupted("roles cannot be written".to_owned()))
}

fn encode(record: &UserRow) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(record).map_err(|_| redb::Error::Corrupted("a user cannot be written".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As written by a version without roles.
    const OLD: &str = r#"{"id":"1","password":"p","disabled":false,"created_at":5,"password_mark":"m"}"#;

    fn record(roles: &str) -> String {
        OLD.replace('}', &format!(r#","roles":{roles}}}"#))
    }

    #[test]
    fn a_record_without_roles_is_read_and_written_unchanged() {
        let read = decode(OLD.as_bytes()).unwrap();
        assert_eq!(read.roles(), StoredRoles::default());
        assert_eq!(encode(&read).unwrap(), OLD.as_bytes());
        let null = decode(record("null").as_bytes()).unwrap();
        assert_eq!((null.roles(), null.mark()), (StoredRoles::default(), read.mark()));
    }

    #[test]
    fn roles_that_cannot_be_read_do_not_affect_the_user_and_are_preserved() {
        for roles in ["\"admin\"", "[\"admin\",1]", "{\"a\":1}", "[\"a b\"]", "7"] {
            let read = decode(record(roles).as_bytes()).unwrap();
            assert_eq!((read.roles(), read.password.as_str()), (StoredRoles::Unreadable, "p"), "{roles}");
            assert_eq!(encode(&read).unwrap(), record(roles).as_bytes());
        }
        let some = decode(record("[\"b\",\"a\",\"b\"]").as_bytes()).unwrap();
        assert_eq!(some.roles(), StoredRoles::Valid(Roles::parse(["a", "b"]).unwrap()));
        assert_eq!(some.mark(), decode(OLD.as_bytes()).unwrap().mark(), "roles do not change the mark");
    }
}
