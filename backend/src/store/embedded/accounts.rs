//! Changes of users that end calendar feeds.

use super::{Embedded, calendars, users};
use crate::model::NewUser;
use crate::store::{StoreError, UserChange, random_id};

impl Embedded {
    pub(in crate::store) async fn create_user(&self, user: NewUser) -> Result<bool, StoreError> {
        let id = random_id()?;
        let mark = random_id()?;
        self.write(move |transaction| {
            let created = users::create(transaction, &user, id, mark)?;
            if created {
                // Of a user of the same name in a restored backup.
                calendars::delete_of(transaction, user.username.as_str())?;
            }
            Ok(created)
        })
        .await
    }

    pub(in crate::store) async fn set_disabled(
        &self,
        username: &str,
        disabled: bool,
        now: i64,
    ) -> Result<UserChange, StoreError> {
        let (username, mark) = (username.to_owned(), random_id()?);
        self.write(move |transaction| {
            let mut was_disabled = false;
            let changed = users::change(transaction, &username, |user| {
                was_disabled = user.disabled;
                user.disabled = disabled;
                if disabled {
                    user.password_changed_at = Some(now);
                    user.password_mark = Some(mark);
                }
            })?;
            // A restored backup may have feeds of a disabled user.
            if disabled || was_disabled {
                calendars::delete_of(transaction, &username)?;
            }
            Ok(changed)
        })
        .await
    }

    pub(in crate::store) async fn delete_user(&self, username: &str, _now: i64) -> Result<UserChange, StoreError> {
        let username = username.to_owned();
        self.write(move |transaction| {
            calendars::delete_of(transaction, &username)?;
            users::delete(transaction, &username)
        })
        .await
    }
}
