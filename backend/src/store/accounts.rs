//! The operations on users and on what decides over their tokens.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt};

use super::{
    AccountChange, ChangeDetection, Confirmed, Engine, Fingerprint, LoggedOut, Store, StoreError, UserChange, engine,
};
use crate::model::{AccountStatus, Logout, NewUser, RESERVED_PREFIX, StoredPassword, StoredUser, UserSummary};

impl Store {
    /// One user by the exact bytes of the name, disabled ones too. `None` where there
    /// is none, or where the stored document is no user that could log in.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn user(&self, username: &str) -> Result<Option<StoredUser>, StoreError> {
        engine!(self.user(username))
    }

    /// Every user, without the stored password, by name.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn users(&self) -> Result<Vec<UserSummary>, StoreError> {
        engine!(self.users())
    }

    /// Adds a user; `false` where the name is taken.
    ///
    /// # Errors
    /// Where it is not known whether the user was added.
    pub async fn create_user(&self, user: NewUser) -> Result<bool, StoreError> {
        engine!(self.create_user(user))
    }

    /// A change of password: stores the new hash and the time of the change, in seconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// Where it is not known whether the password was changed.
    pub async fn change_password(&self, username: &str, hash: &str, changed_at: i64) -> Result<UserChange, StoreError> {
        engine!(self.change_password(username, hash, changed_at))
    }

    /// Replaces the stored form of a password that stays the same: only where what is
    /// stored still equals `stored`, and without the time of a change. `false` where
    /// it did not.
    ///
    /// # Errors
    /// Where it is not known whether the form was replaced. The password is good all the same.
    pub async fn upgrade_password(&self, username: &str, stored: &str, hash: &str) -> Result<bool, StoreError> {
        engine!(self.upgrade_password(username, stored, hash))
    }

    /// Disables or enables a user.
    ///
    /// # Errors
    /// Where it is not known whether the user was changed.
    pub async fn set_disabled(&self, username: &str, disabled: bool) -> Result<UserChange, StoreError> {
        engine!(self.set_disabled(username, disabled))
    }

    /// Removes a user.
    ///
    /// # Errors
    /// Where it is not known whether the user is gone.
    pub async fn delete_user(&self, username: &str, now: i64) -> Result<UserChange, StoreError> {
        engine!(self.delete_user(username, now))
    }

    /// What holds for the tokens of `identity`, and a fingerprint of it. `now` is in seconds
    /// since the Unix epoch, here and below.
    ///
    /// A password that was changed past this interface, in MongoDB itself, counts as changed
    /// now: that is stored before this returns.
    ///
    /// # Errors
    /// Where the store cannot be read, or such a change not be stored.
    pub async fn account(&self, identity: &str, now: i64) -> Result<(AccountStatus, Fingerprint), StoreError> {
        if identity.starts_with(RESERVED_PREFIX) {
            return Ok((AccountStatus::default(), Fingerprint::default()));
        }
        engine!(self.account(identity, now))
    }

    /// Whether the user may still log in with `stored`, which the password was compared with.
    /// A change past this interface is stored as by [`Store::account`].
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

    /// Remembers a logout until it expires. A second one of the same token is as good as one.
    ///
    /// # Errors
    /// Where it is not known whether the logout was stored; it may be repeated.
    pub async fn log_out(&self, logout: &Logout, now: i64) -> Result<LoggedOut, StoreError> {
        engine!(self.log_out(logout, now))
    }

    /// Frees the room of logouts that have expired, where the engine does not by itself.
    ///
    /// # Errors
    /// Where they could not be removed. They are not told of in any case.
    pub async fn remove_expired_logouts(&self, now: i64) -> Result<(), StoreError> {
        engine!(self.remove_expired_logouts(now))
    }

    /// How changes by other hands are learnt of, as the engine is found now.
    ///
    /// # Errors
    /// Where the engine does not answer.
    pub async fn change_detection(&self) -> Result<ChangeDetection, StoreError> {
        engine!(self.change_detection())
    }

    /// Changes from now on, where the engine tells of them, and the echoes under this name.
    ///
    /// An error tells that they cannot be followed just now; what was missed by then is told
    /// afterwards, or [`AccountChange::All`] is. The stream ends where the engine refuses to tell.
    pub fn changes(&self, echoes: &str) -> BoxStream<'static, Result<AccountChange, StoreError>> {
        match &self.engine {
            Engine::Mongo(engine) => engine.changes(echoes),
            Engine::Embedded(_) => futures_util::stream::empty().boxed(),
        }
    }

    /// Writes a number that comes back among [`Store::changes`].
    ///
    /// # Errors
    /// Where it is not known whether it will.
    pub async fn echo(&self, echoes: &str, number: i64) -> Result<(), StoreError> {
        match &self.engine {
            Engine::Mongo(engine) => engine.echo(echoes, number).await,
            Engine::Embedded(_) => Ok(()),
        }
    }

    /// A look at many accounts at once, by name. An account that is not there has a sighting too.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn fingerprints(
        &self,
        identities: &[Arc<str>],
        now: i64,
    ) -> Result<HashMap<Arc<str>, Fingerprint>, StoreError> {
        engine!(self.fingerprints(identities, now))
    }
}
