//! Roles of users: changes, their limits, and concurrent changes.

use std::time::{Duration, Instant};

use holodule_backend::model::{
    AccountStatus, InvalidRoles, NewUser, ROLES_LIMIT, Roles, RolesChange, RolesRefused, StoredPassword, StoredRoles,
    Username,
};
use holodule_backend::store::{Confirmed, RolesChanged, Store};

use super::{NOW, on_both_engines};

on_both_engines!(
    a_new_user_has_no_roles_and_each_change_is_stored,
    a_role_is_text_and_never_an_expression,
    a_change_of_roles_revokes_no_token,
    a_login_and_a_check_return_the_stored_roles,
    a_user_created_again_has_no_roles,
    a_change_beyond_a_limit_changes_nothing,
    concurrent_changes_lose_nothing,
);

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

async fn create(store: &Store, username: &str) {
    let username = Username::parse(username).unwrap();
    let user = NewUser { username, hash: StoredPassword::new(HASH), created_at: NOW - 100 };
    assert!(store.create_user(user).await.unwrap());
}

fn roles(texts: &[&str]) -> Roles {
    Roles::parse(texts).unwrap()
}

fn edit(add: &[&str], remove: &[&str]) -> RolesChange {
    RolesChange::Edit { add: roles(add), remove: roles(remove) }
}

async fn change(store: &Store, username: &str, change: RolesChange) -> RolesChanged {
    store.change_roles(username, &change).await.unwrap()
}

async fn stored(store: &Store, username: &str) -> Vec<String> {
    let Some(StoredRoles::Valid(roles)) = store.roles(username).await.unwrap() else { panic!("{username}") };
    roles.iter().map(str::to_owned).collect()
}

async fn account(store: &Store, username: &str) -> AccountStatus {
    store.account(username, NOW).await.unwrap().0
}

async fn a_new_user_has_no_roles_and_each_change_is_stored(store: &Store) {
    assert_eq!(store.roles("user01").await.unwrap(), None);
    for unknown in [edit(&["a"], &[]), edit(&[], &["a"]), RolesChange::Replace(roles(&["a"]))] {
        assert_eq!(change(store, "user01", unknown).await, RolesChanged::NoSuchUser);
    }
    assert!(store.user("user01").await.unwrap().is_none(), "a change makes no user");
    create(store, "user01").await;
    create(store, "user02").await;
    assert_eq!(store.roles("user01").await.unwrap(), Some(StoredRoles::default()));
    for (edit, expected) in [
        (edit(&["b", "a"], &[]), &["a", "b"][..]),
        (edit(&["b", "c"], &["a", "x"]), &["b", "c"]),
        (edit(&["b"], &[]), &["b", "c"]),
        (RolesChange::Replace(roles(&["z", "A"])), &["A", "z"]),
        (edit(&[], &["a", "Z"]), &["A", "z"]),
        (edit(&[], &["A", "z"]), &[]),
        (edit(&[], &["A"]), &[]),
        (RolesChange::Replace(roles(&["z"])), &["z"]),
        (RolesChange::Replace(Roles::default()), &[]),
        (edit(&["a"], &[]), &["a"]),
    ] {
        assert_eq!(change(store, "user01", edit.clone()).await, RolesChanged::Done);
        assert_eq!(stored(store, "user01").await, expected, "{edit:?}");
    }
    assert_eq!(stored(store, "user02").await, Vec::<String>::new());
    let listed: Vec<_> = store.users().await.unwrap().into_iter().map(|user| (user.username, user.roles)).collect();
    let expected = [("user01", StoredRoles::Valid(roles(&["a"]))), ("user02", StoredRoles::default())];
    assert_eq!(listed, expected.map(|(name, roles)| (name.to_owned(), roles)));
}

async fn a_role_is_text_and_never_an_expression(store: &Store) {
    create(store, "user01").await;
    let odd = ["$username", "$$ROOT", "a.b", "$literal", "null", "'", "~"];
    assert_eq!(change(store, "user01", edit(&odd, &[])).await, RolesChanged::Done);
    let mut sorted = odd.to_vec();
    sorted.sort_unstable();
    assert_eq!(stored(store, "user01").await, sorted);
    assert_eq!(change(store, "user01", edit(&[], &odd[1..])).await, RolesChanged::Done);
    assert_eq!(stored(store, "user01").await, ["$username"]);
}

async fn a_change_of_roles_revokes_no_token(store: &Store) {
    create(store, "user01").await;
    let before = account(store, "user01").await;
    for next in [edit(&["a"], &[]), RolesChange::Replace(roles(&["b"])), edit(&[], &["b"])] {
        assert_eq!(change(store, "user01", next).await, RolesChanged::Done);
        let after = AccountStatus { roles: StoredRoles::default(), ..account(store, "user01").await };
        assert_eq!(after, before, "the mark and the time of the password are the same");
    }
}

async fn a_login_and_a_check_return_the_stored_roles(store: &Store) {
    create(store, "user01").await;
    let password = StoredPassword::new(HASH);
    for some in [&[][..], &["a", "b"]] {
        let some = roles(some);
        assert_eq!(change(store, "user01", RolesChange::Replace(some.clone())).await, RolesChanged::Done);
        assert_eq!(account(store, "user01").await.roles, StoredRoles::Valid(some.clone()));
        let Confirmed::Yes { roles, .. } = store.confirm_login("user01", &password, NOW).await.unwrap() else {
            panic!("the password is the one that is stored");
        };
        assert_eq!(roles, StoredRoles::Valid(some));
    }
    // A new password does not change the roles, and a disabled user has none for gateways.
    store.change_password("user01", "$argon2id$new", NOW).await.unwrap();
    assert_eq!(account(store, "user01").await.roles, StoredRoles::Valid(roles(&["a", "b"])));
    store.set_disabled("user01", true, NOW).await.unwrap();
    assert_eq!(account(store, "user01").await.roles, StoredRoles::default());
    assert_eq!(stored(store, "user01").await, ["a", "b"]);
}

async fn a_user_created_again_has_no_roles(store: &Store) {
    create(store, "user01").await;
    assert_eq!(change(store, "user01", edit(&["admin"], &[])).await, RolesChanged::Done);
    store.delete_user("user01", NOW).await.unwrap();
    assert_eq!(store.roles("user01").await.unwrap(), None);
    create(store, "user01").await;
    assert_eq!(stored(store, "user01").await, Vec::<String>::new());
}

async fn a_change_beyond_a_limit_changes_nothing(store: &Store) {
    create(store, "user01").await;
    let all: Vec<String> = (0..ROLES_LIMIT).map(|number| format!("{number:02}")).collect();
    assert_eq!(change(store, "user01", RolesChange::Replace(Roles::parse(&all).unwrap())).await, RolesChanged::Done);
    let refused = |error: InvalidRoles| RolesChanged::Refused(RolesRefused::Invalid(error));
    assert_eq!(change(store, "user01", edit(&["x"], &[])).await, refused(InvalidRoles::TooMany));
    assert_eq!(stored(store, "user01").await, all);
    assert_eq!(change(store, "user01", edit(&["00"], &[])).await, RolesChanged::Done);
    assert_eq!(change(store, "user01", edit(&["x"], &["00"])).await, RolesChanged::Done);
    let long: Vec<String> = (0..31).map(|number| format!("{number:064}")).collect();
    assert_eq!(change(store, "user01", RolesChange::Replace(Roles::parse(&long).unwrap())).await, RolesChanged::Done);
    let last = "x".repeat(34);
    assert_eq!(change(store, "user01", edit(&[&last], &[])).await, refused(InvalidRoles::TooLong));
    assert_eq!(stored(store, "user01").await, long);
}

async fn concurrent_changes_lose_nothing(store: &Store) {
    create(store, "user01").await;
    assert_eq!(change(store, "user01", RolesChange::Replace(numbered(0..16))).await, RolesChanged::Done);
    let started = Instant::now();
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let edit =
                    RolesChange::Edit { add: numbered(number + 16..number + 17), remove: numbered(number..number + 1) };
                change(&store, "user01", edit).await
            })
        })
        .collect();
    store.set_disabled("user01", true, NOW).await.unwrap();
    for task in tasks {
        assert_eq!(task.await.unwrap(), RolesChanged::Done);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let expected: Vec<_> = numbered(16..32).iter().map(str::to_owned).collect();
    assert_eq!(stored(store, "user01").await, expected);
    assert!(store.user("user01").await.unwrap().unwrap().disabled);

    // As many as fit: which ones is not determined.
    let tasks: Vec<_> = (32..80)
        .map(|number| {
            let store = store.clone();
            let edit = RolesChange::Edit { add: numbered(number..number + 1), remove: Roles::default() };
            tokio::spawn(async move { change(&store, "user01", edit).await })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += usize::from(task.await.unwrap() == RolesChanged::Done);
    }
    assert_eq!((done, stored(store, "user01").await.len()), (ROLES_LIMIT - 16, ROLES_LIMIT));
}

fn numbered(numbers: std::ops::Range<usize>) -> Roles {
    Roles::parse(numbers.map(|number| format!("r{number:02}"))).unwrap()
}
