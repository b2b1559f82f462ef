//! Operations on users and on the state of their tokens.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};

use super::{
    AccountChange, ChangeDetection, Confirmed, Engine, Fingerprint, LoggedOut, RolesChanged, Store, StoreError,
    UserChange, engine,
};
use crate::model::{
    AccountStatus, Logout, NewUser, RESERVED_PREFIX, RolesChange, StoredPassword, StoredRoles, StoredUser, UserSummary,
};

impl Store {
    /// A user by the exact bytes of the name, disabled ones included. `None` if there is none, or if the stored
    /// document allows no login.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn user(&self, username: &str) -> Result<Option<StoredUser>, StoreError> {
        engine!(self.user(username))
    }

    /// All users without their stored passwords, by name.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn users(&self) -> Result<Vec<UserSummary>, StoreError> {
        engine!(self.users())
    }

    /// Adds a user; `false` if the name is taken.
    ///
    /// # Errors
    /// If it is unknown whether the user was added.
    pub async fn create_user(&self, user: NewUser) -> Result<bool, StoreError> {
        engine!(self.create_user(user))
    }

    /// Changes a password: stores the new hash and the time of the change, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// If it is unknown whether the password was changed.
    pub async fn change_password(&self, username: &str, hash: &str, changed_at: i64) -> Result<UserChange, StoreError> {
        engine!(self.change_password(username, hash, changed_at))
    }

    /// Replaces the stored form of an unchanged password, only if the stored value still equals `stored`, and without a
    /// time of change. `false` if it does not.
    ///
    /// # Errors
    /// If it is unknown whether the form was replaced. The password remains valid.
    pub async fn upgrade_password(&self, username: &str, stored: &str, hash: &str) -> Result<bool, StoreError> {
        engine!(self.upgrade_password(username, stored, hash))
    }

    /// Disables or enables a user. Disabling revokes the tokens issued before `now` (seconds since the Unix epoch) for
    /// good: they are not valid again when the user is enabled.
    ///
    /// # Errors
    /// If it is unknown whether the user was changed.
    pub async fn set_disabled(&self, username: &str, disabled: bool, now: i64) -> Result<UserChange, StoreError> {
        engine!(self.set_disabled(username, disabled, now))
    }

    /// The stored roles of a user; `None` if there is no such user.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn roles(&self, username: &str) -> Result<Option<StoredRoles>, StoreError> {
        engine!(self.roles(username))
    }

    /// Changes the roles of a user, whose tokens remain valid. Concurrent changes have the same result as one after
    /// the other. Roles that cannot be read can be replaced, but not edited.
    ///
    /// # Errors
    /// If it is unknown whether the roles were changed; the change can be repeated.
    pub async fn change_roles(&self, username: &str, change: &RolesChange) -> Result<RolesChanged, StoreError> {
        engine!(self.change_roles(username, change))
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// If it is unknown whether the user was deleted.
    pub async fn delete_user(&self, username: &str, now: i64) -> Result<UserChange, StoreError> {
        engine!(self.delete_user(username, now))
    }

    /// The status of an account, and its fingerprint. `now` is in seconds since the Unix epoch, here and below.
    ///
    /// A password that was changed directly in MongoDB counts as changed now; this is stored before the call returns.
    ///
    /// # Errors
    /// If the store cannot be read, or such a change cannot be stored.
    pub async fn account(&self, identity: &str, now: i64) -> Result<(AccountStatus, Fingerprint), StoreError> {
        if identity.starts_with(RESERVED_PREFIX) {
            return Ok((AccountStatus::default(), Fingerprint::default()));
        }
        engine!(self.account(identity, now))
    }

    /// Whether the user may still log in with `stored`, the value that the password was compared with. An external
    /// change is stored as by [`Store::account`].
    ///
    /// # Errors
    /// Those of [`Store::account`].
    pub async fn confirm_login(
        &self,
        username: &str,
        stored: &StoredPassword,
        now: i64,
    ) -> Result<Confirmed, StoreError> {
        engine!(self.confirm_login(username, stored, now))
    }

    /// Stores a logout until it expires. Idempotent for the same token.
    ///
    /// # Errors
    /// If it is unknown whether the logout was stored; it can be repeated.
    pub async fn log_out(&self, logout: &Logout, now: i64) -> Result<LoggedOut, StoreError> {
        engine!(self.log_out(logout, now))
    }

    /// Removes expired logouts, if the engine does not by itself.
    ///
    /// # Errors
    /// If they could not be removed. They have no effect in any case.
    pub async fn remove_expired_logouts(&self, now: i64) -> Result<(), StoreError> {
        engine!(self.remove_expired_logouts(now))
    }

    /// How external changes are detected with the engine in its current state.
    ///
    /// # Errors
    /// If the engine is unavailable.
    pub async fn change_detection(&self) -> Result<ChangeDetection, StoreError> {
        engine!(self.change_detection())
    }

    /// Streams account changes from now on if the engine supports it, and the echoes of this name.
    ///
    /// An error means that changes are currently not received; missed changes follow later, or [`AccountChange::All`]
    /// does. The stream ends if the engine refuses to stream.
    pub fn changes(&self, echoes: &str) -> BoxStream<'static, Result<AccountChange, StoreError>> {
        match &self.engine {
            Engine::Mongo(engine) => engine.changes(echoes),
            Engine::Embedded(_) => futures_util::stream::empty().boxed(),
        }
    }

    /// Writes a number that is streamed by [`Store::changes`].
    ///
    /// # Errors
    /// If it is unknown whether it will be.
    pub async fn echo(&self, echoes: &str, number: i64) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.echo(echoes, number).await,
            Engine::Embedded(_) => Ok(()),
        }
    }

    /// The fingerprints of many accounts, by name, also of those that do not exist.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn fingerprints(
        &self,
        identities: &[Arc<str>],
        now: i64,
    ) -> Result<HashMap<Arc<str>, Fingerprint>, StoreError> {
        engine!(self.fingerprints(identities, now))
    }
}
