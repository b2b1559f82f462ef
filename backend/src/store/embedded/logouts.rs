//! The table of logouts, ordered by identity and token.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use crate::model::{Logout, TokenId};
use crate::store::{LOGOUT_LIMIT, LoggedOut};

/// `(identity, token)` to the expiry of the logout, in seconds since the Unix epoch.
const LOGOUTS: TableDefinition<'_, (&str, &str), i64> = TableDefinition::new("logouts");

/// Greater than every token, which are printable ASCII.
const PAST_TOKENS: &str = "\u{7f}";

pub(super) fn create_table(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(LOGOUTS)?;
    Ok(())
}

/// The tokens of `identity` with unexpired logouts, in order.
pub(super) fn of(transaction: &ReadTransaction, identity: &str, now: i64) -> Result<Vec<TokenId>, redb::Error> {
    let mut tokens = Vec::new();
    for logout in transaction.open_table(LOGOUTS)?.range((identity, "")..(identity, PAST_TOKENS))? {
        let (position, expires_at) = logout?;
        if expires_at.value() > now {
            let token = TokenId::parse(position.value().1);
            tokens.push(token.map_err(|_| redb::Error::Corrupted("a logout cannot be read".to_owned()))?);
        }
    }
    Ok(tokens)
}

pub(super) fn store(transaction: &WriteTransaction, logout: &Logout, now: i64) -> Result<LoggedOut, redb::Error> {
    let mut table = transaction.open_table(LOGOUTS)?;
    let identity = logout.identity.as_str();
    table.retain_in((identity, "")..(identity, PAST_TOKENS), |_, expires_at| expires_at > now)?;
    let position = (identity, logout.token.as_str());
    let known = table.get(position)?.map(|expires_at| expires_at.value());
    if known.is_none() && table.range((identity, "")..(identity, PAST_TOKENS))?.count() >= LOGOUT_LIMIT {
        return Ok(LoggedOut::TooMany);
    }
    table.insert(position, known.unwrap_or(i64::MIN).max(logout.expires_at))?;
    Ok(LoggedOut::Done)
}

/// All logouts, by identity and token.
pub(super) fn saved(transaction: &ReadTransaction) -> Result<Vec<Logout>, redb::Error> {
    let mut logouts = Vec::new();
    for logout in transaction.open_table(LOGOUTS)?.iter()? {
        let (position, expires_at) = logout?;
        let (identity, token) = position.value();
        let token = TokenId::parse(token).map_err(|_| redb::Error::Corrupted("a logout cannot be read".to_owned()))?;
        logouts.push(Logout { identity: identity.to_owned(), token, expires_at: expires_at.value() });
    }
    Ok(logouts)
}

/// Stores a logout of a backup in addition to the existing ones.
pub(super) fn restore(transaction: &WriteTransaction, logout: &Logout) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(LOGOUTS)?;
    let position = (logout.identity.as_str(), logout.token.as_str());
    let known = table.get(position)?.map_or(i64::MIN, |expires_at| expires_at.value());
    table.insert(position, known.max(logout.expires_at))?;
    Ok(())
}

/// Whether any logout has expired.
pub(super) fn any_expired(transaction: &ReadTransaction, now: i64) -> Result<bool, redb::Error> {
    for logout in transaction.open_table(LOGOUTS)?.iter()? {
        if logout?.1.value() <= now {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn remove_expired(transaction: &WriteTransaction, now: i64) -> Result<(), redb::Error> {
    transaction.open_table(LOGOUTS)?.retain(|_, expires_at| expires_at > now)?;
    Ok(())
}
