//! The state that decides about a user's tokens: whether the account is active, the time of the last password change,
//! and logouts.

use holodule_backend::model::{AccountStatus, Logout, NewUser, PasswordMark, StoredPassword, TokenId, Username};
use holodule_backend::store::{Confirmed, LOGOUT_LIMIT, LoggedOut, Store};

use super::{NOW, on_both_engines};

on_both_engines!(
    an_account_is_active_from_creation_to_deletion,
    the_time_of_the_last_password_change_is_known,
    an_upgrade_does_not_change_the_time_of_the_password,
    a_user_created_again_is_another,
    a_mark_belongs_to_one_password,
    disabling_revokes_earlier_tokens_for_good,
    a_reserved_name_has_no_account,
    a_login_is_confirmed_only_with_what_is_stored,
    a_logout_lasts_until_it_expires,
    a_logout_belongs_to_one_identity_and_can_be_repeated,
    logouts_are_limited_and_none_is_dropped,
);

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

async fn create(store: &Store, username: &str, stored: &str, created_at: i64) {
    let username = Username::parse(username).unwrap();
    assert!(store.create_user(NewUser { username, hash: StoredPassword::new(stored), created_at }).await.unwrap());
}

async fn account(store: &Store, identity: &str) -> AccountStatus {
    let mut account = store.account(identity, NOW).await.unwrap().0;
    let mark = account.password_mark.take();
    assert_eq!(mark.is_some(), account.active);
    account
}

async fn mark(store: &Store, identity: &str) -> PasswordMark {
    store.account(identity, NOW).await.unwrap().0.password_mark.unwrap()
}

fn since(second: i64) -> AccountStatus {
    AccountStatus { active: true, password_changed_at: Some(second), ..AccountStatus::default() }
}

fn token(number: usize) -> TokenId {
    TokenId::parse(&format!("jti:{number:04}")).unwrap()
}

async fn log_out(store: &Store, identity: &str, number: usize, expires_at: i64) -> LoggedOut {
    let logout = Logout { identity: identity.to_owned(), token: token(number), expires_at };
    store.log_out(&logout, NOW).await.unwrap()
}

async fn an_account_is_active_from_creation_to_deletion(store: &Store) {
    assert_eq!(account(store, "user01").await, AccountStatus::default());
    create(store, "user01", HASH, NOW - 100).await;
    assert_eq!(account(store, "user01").await, since(NOW - 100));
    for other in ["", "user0", "User01", "user01 "] {
        assert_eq!(account(store, other).await, AccountStatus::default(), "{other:?}");
    }
    log_out(store, "user01", 1, NOW + 100).await;
    store.set_disabled("user01", true, NOW).await.unwrap();
    let disabled = AccountStatus { disabled: true, ..AccountStatus::default() };
    assert_eq!(account(store, "user01").await, disabled, "and nothing else is returned");
    store.set_disabled("user01", false, NOW).await.unwrap();
    assert!(account(store, "user01").await.active);
    store.delete_user("user01", NOW).await.unwrap();
    assert_eq!(account(store, "user01").await, AccountStatus::default());
}

async fn the_time_of_the_last_password_change_is_known(store: &Store) {
    create(store, "user01", HASH, NOW - 100).await;
    assert_eq!(account(store, "user01").await, since(NOW - 100));
    store.change_password("user01", "$argon2id$second", NOW - 50).await.unwrap();
    assert_eq!(account(store, "user01").await, since(NOW - 50));
    assert_eq!(account(store, "user01").await, since(NOW - 50), "our own change is no change by others");
    store.change_password("user01", "$argon2id$third", NOW + 50).await.unwrap();
    assert_eq!(account(store, "user01").await, since(NOW), "by a clock that is ahead");
}

async fn an_upgrade_does_not_change_the_time_of_the_password(store: &Store) {
    create(store, "user01", "password01", NOW - 100).await;
    create(store, "user02", "password02", NOW - 100).await;
    assert_eq!(account(store, "user01").await, since(NOW - 100));
    // One is known before, the other is not.
    for (username, password) in [("user01", "password01"), ("user02", "password02")] {
        assert!(store.upgrade_password(username, password, HASH).await.unwrap());
        assert_eq!(account(store, username).await, since(NOW - 100), "{username}");
    }
    assert!(!store.upgrade_password("user01", "password01", "$argon2id$late").await.unwrap());
    assert_eq!(account(store, "user01").await, since(NOW - 100), "one that came to nothing neither");
}

async fn a_user_created_again_is_another(store: &Store) {
    create(store, "user01", HASH, NOW - 100).await;
    assert_eq!(account(store, "user01").await, since(NOW - 100));
    store.delete_user("user01", NOW - 50).await.unwrap();
    create(store, "user01", HASH, NOW - 10).await;
    let again = account(store, "user01").await;
    assert!(again.active && again.password_changed_at.unwrap() >= NOW - 10, "{again:?}");
}

async fn a_mark_belongs_to_one_password(store: &Store) {
    create(store, "user01", "password01", NOW - 100).await;
    create(store, "user02", "password01", NOW - 100).await;
    let first = mark(store, "user01").await;
    assert_ne!(first, mark(store, "user02").await);
    let stored = StoredPassword::new("password01");
    let Confirmed::Yes { password_mark, .. } = store.confirm_login("user01", &stored, NOW).await.unwrap() else {
        panic!("the password is the one that is stored");
    };
    assert_eq!(password_mark, first, "a login and a check agree");
    assert!(store.upgrade_password("user01", "password01", HASH).await.unwrap());
    store.set_disabled("user01", false, NOW).await.unwrap();
    let later = store.account("user01", NOW + 1000).await.unwrap().0.password_mark;
    assert_eq!(later, Some(first.clone()), "the password is the same");
    // Within one second, and alternating between two values.
    let mut seen = vec![first];
    for hash in ["$argon2id$second", HASH, "$argon2id$second"] {
        store.change_password("user01", hash, NOW).await.unwrap();
        seen.push(mark(store, "user01").await);
        assert_eq!(mark(store, "user01").await, seen[seen.len() - 1]);
    }
    for _ in 0..2 {
        store.delete_user("user01", NOW).await.unwrap();
        create(store, "user01", HASH, NOW).await;
        seen.push(mark(store, "user01").await);
    }
    let distinct: std::collections::HashSet<_> = seen.iter().map(PasswordMark::as_str).collect();
    assert_eq!(distinct.len(), 6, "{seen:?}");
    assert!(distinct.iter().all(|mark| mark.len() == 16), "{seen:?}");
}

async fn disabling_revokes_earlier_tokens_for_good(store: &Store) {
    create(store, "user01", HASH, NOW - 100).await;
    let before = mark(store, "user01").await;
    store.set_disabled("user01", true, NOW - 10).await.unwrap();
    store.set_disabled("user01", false, NOW - 5).await.unwrap();
    assert_ne!(mark(store, "user01").await, before);
    assert_eq!(account(store, "user01").await, since(NOW - 10));
    let enabled = mark(store, "user01").await;
    store.set_disabled("user01", false, NOW).await.unwrap();
    assert_eq!(mark(store, "user01").await, enabled, "only disabling revokes tokens");
}

async fn a_reserved_name_has_no_account(store: &Store) {
    assert!(Username::parse("static:monitor").is_err());
    log_out(store, "static:monitor", 1, NOW + 100).await;
    assert_eq!(account(store, "static:monitor").await, AccountStatus::default());
    assert!(store.user("static:monitor").await.unwrap().is_none());
}

async fn a_login_is_confirmed_only_with_what_is_stored(store: &Store) {
    let confirm = async |username: &str, stored: &str| match store
        .confirm_login(username, &StoredPassword::new(stored), NOW)
        .await
        .unwrap()
    {
        Confirmed::Yes { password_changed_at, .. } => password_changed_at,
        Confirmed::Superseded => None,
    };
    assert_eq!(confirm("user01", HASH).await, None);
    create(store, "user01", HASH, NOW - 100).await;
    assert_eq!(confirm("user01", HASH).await, Some(NOW - 100));
    assert_eq!(confirm("user01", "$argon2id$other").await, None);
    store.change_password("user01", "$argon2id$second", NOW - 50).await.unwrap();
    assert_eq!(confirm("user01", HASH).await, None);
    assert_eq!(confirm("user01", "$argon2id$second").await, Some(NOW - 50));
    store.set_disabled("user01", true, NOW).await.unwrap();
    assert_eq!(confirm("user01", "$argon2id$second").await, None);
}

async fn a_logout_lasts_until_it_expires(store: &Store) {
    create(store, "user01", HASH, NOW - 100).await;
    assert_eq!(log_out(store, "user01", 2, NOW + 100).await, LoggedOut::Done);
    assert_eq!(log_out(store, "user01", 1, NOW + 200).await, LoggedOut::Done);
    let at = async |now| store.account("user01", now).await.unwrap().0.logged_out;
    assert_eq!(at(NOW).await, [token(1), token(2)]);
    assert_eq!(at(NOW + 99).await, [token(1), token(2)]);
    assert_eq!(at(NOW + 100).await, [token(1)]);
    store.remove_expired_logouts(NOW + 100).await.unwrap();
    assert_eq!(at(NOW + 199).await, [token(1)]);
    assert_eq!(at(NOW + 200).await, []);
}

async fn a_logout_belongs_to_one_identity_and_can_be_repeated(store: &Store) {
    for username in ["user01", "user012", "user0"] {
        create(store, username, HASH, NOW - 100).await;
    }
    for expires_at in [NOW + 100, NOW + 200, NOW + 50] {
        assert_eq!(log_out(store, "user01", 1, expires_at).await, LoggedOut::Done);
    }
    assert_eq!(store.account("user01", NOW + 199).await.unwrap().0.logged_out, [token(1)], "the longest counts");
    for other in ["user012", "user0"] {
        assert_eq!(account(store, other).await.logged_out, [], "{other}");
    }
}

async fn logouts_are_limited_and_none_is_dropped(store: &Store) {
    create(store, "user01", HASH, NOW - 100).await;
    create(store, "user02", HASH, NOW - 100).await;
    let numbers: Vec<usize> = (0..LOGOUT_LIMIT).collect();
    for some in numbers.chunks(64) {
        // One of them expires before the others.
        let all = some.iter().map(|number| log_out(store, "user01", *number, NOW + 100 + i64::from(*number > 0)));
        assert!(futures_util::future::join_all(all).await.iter().all(|logged_out| *logged_out == LoggedOut::Done));
    }
    assert_eq!(log_out(store, "user01", LOGOUT_LIMIT, NOW + 200).await, LoggedOut::TooMany);
    assert_eq!(log_out(store, "user01", 1, NOW + 200).await, LoggedOut::Done, "one that is there is no further one");
    assert_eq!(account(store, "user01").await.logged_out, numbers.iter().map(|n| token(*n)).collect::<Vec<_>>());
    assert_eq!(log_out(store, "user02", 1, NOW + 200).await, LoggedOut::Done, "another's room is another's");
    let later = Logout { identity: "user01".to_owned(), token: token(LOGOUT_LIMIT), expires_at: NOW + 300 };
    assert_eq!(store.log_out(&later, NOW + 100).await.unwrap(), LoggedOut::Done, "what has expired makes room");
}
