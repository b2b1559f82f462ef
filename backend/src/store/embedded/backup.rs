//! Backup in one read transaction, restore in one write transaction.

use std::sync::Arc;

use redb::{ReadTransaction, WriteTransaction};
use tokio::sync::mpsc;

use super::{EXPORT_PAGE, Embedded, acquire, blocking, calendars, holodules, logouts, streamers, users};
use crate::model::Saved;
use crate::store::changed::TouchedDays;
use crate::store::{BackedUp, Incoming, Restored, StoreError, random_id};

impl Embedded {
    /// Holds a reader permit while the receiver reads.
    pub(in crate::store) async fn backup(&self, records: mpsc::Sender<Saved>) -> Result<BackedUp, StoreError> {
        let file = Arc::clone(&self.file);
        let permit = acquire(&self.readers, self.timeout).await?;
        // A snapshot does not prevent reopening the file while the receiver is slow.
        blocking(permit, move || send_all(&file.snapshot()?, &records)).await
    }

    pub(in crate::store) async fn restore(
        &self,
        records: Incoming,
        replace: bool,
        now: i64,
    ) -> Result<Restored, StoreError> {
        let (file, changed) = (Arc::clone(&self.file), Arc::clone(&self.changed));
        let permit = acquire(&self.writer, self.timeout).await?;
        blocking(permit, move || {
            let touched = TouchedDays::none(&changed);
            touched.touch_all();
            file.write(|transaction| receive_all(transaction, records, replace, now))
        })
        .await
    }
}

fn send_all(transaction: &ReadTransaction, records: &mpsc::Sender<Saved>) -> Result<BackedUp, redb::Error> {
    let send = |saved| records.blocking_send(saved).map_err(|_| stopped("the receiver of the records was dropped"));
    for calendar in calendars::saved(transaction)? {
        let delivered = calendars::delivered(transaction, &calendar.id)?.delivered;
        let id = calendar.id.clone();
        send(Saved::Calendar(Box::new(calendar)))?;
        if !delivered.events.is_empty() {
            send(Saved::Delivered(id, Box::new(delivered)))?;
        }
    }
    for streamer in streamers::all(transaction)? {
        send(Saved::Streamer(Box::new(streamer)))?;
    }
    for logout in logouts::saved(transaction)? {
        send(Saved::Logout(logout))?;
    }
    let (mut unreadable, mut after) = (0, None);
    loop {
        let (page, last) = holodules::page(transaction, after.as_ref(), EXPORT_PAGE)?;
        for holodule in page {
            match holodule {
                Ok(holodule) => send(Saved::Holodule(Box::new(holodule)))?,
                Err(id) => {
                    tracing::warn!(id, "an unreadable record is not in the backup");
                    unreadable += 1;
                }
            }
        }
        after = last;
        if after.is_none() {
            break;
        }
    }
    for user in users::saved(transaction)? {
        send(Saved::User(user))?;
    }
    Ok(BackedUp { consistent: true, unreadable })
}

/// An error aborts the transaction.
fn receive_all(
    transaction: &WriteTransaction,
    mut records: Incoming,
    replace: bool,
    now: i64,
) -> Result<Restored, redb::Error> {
    if !(replace || holodules::is_empty(transaction)? && users::is_empty(transaction)?) {
        return Ok(Restored::NotEmpty);
    }
    holodules::clear(transaction)?;
    users::clear(transaction)?;
    calendars::clear(transaction)?;
    let mut duplicates = 0;
    while let Some(record) = records.blocking_recv() {
        match record.map_err(|reason| stopped(&reason))? {
            Saved::Logout(logout) if logout.expires_at <= now => {}
            Saved::Logout(logout) => logouts::restore(transaction, &logout)?,
            Saved::Holodule(holodule) => duplicates += u64::from(!holodules::restore(transaction, &holodule)?),
            Saved::User(user) => {
                let random = || random_id().map_err(|error| stopped(&error.to_string()));
                users::restore(transaction, user, (random()?, random()?), now)?;
            }
            Saved::Calendar(calendar) => calendars::insert(transaction, &calendar)?,
            // After its feed, which has delivered nothing until then.
            Saved::Delivered(id, delivered) => drop(calendars::store_delivered(transaction, &id, 0, *delivered)?),
            Saved::Streamer(streamer) => {
                let id = random_id().map_err(|error| stopped(&error.to_string()))?;
                streamers::restore(transaction, *streamer, id)?;
            }
        }
    }
    Ok(Restored::Done { duplicates })
}

fn stopped(reason: &str) -> redb::Error {
    redb::Error::Io(std::io::Error::other(reason.to_owned()))
}
