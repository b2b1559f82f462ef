//! Users: creation, changes and deletion, and concurrent changes.

use holodule_backend::model::{NewUser, PasswordForm, StoredPassword, Username};
use holodule_backend::store::{Store, UserChange};

use super::{NOW, on_both_engines};

on_both_engines!(
    a_user_is_created_changed_and_deleted,
    names_are_exact,
    a_username_is_unique,
    an_upgrade_replaces_only_the_value_it_was_computed_from,
    the_list_is_sorted_and_has_no_passwords,
);

const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

async fn create(store: &Store, username: &str, hash: &str) -> bool {
    let user = NewUser { username: name(username), hash: StoredPassword::new(hash), created_at: 1_607_526_000 };
    store.create_user(user).await.unwrap()
}

async fn password(store: &Store, username: &str) -> Option<String> {
    store.user(username).await.unwrap().map(|user| user.password.expose().to_owned())
}

async fn a_user_is_created_changed_and_deleted(store: &Store) {
    let user01 = name("user01");
    assert!(store.user("user01").await.unwrap().is_none());
    assert_eq!(store.change_password(user01.as_str(), HASH, 1).await.unwrap(), UserChange::NoSuchUser);
    assert_eq!(store.set_disabled(user01.as_str(), true, NOW).await.unwrap(), UserChange::NoSuchUser);
    assert_eq!(store.delete_user(user01.as_str(), NOW).await.unwrap(), UserChange::NoSuchUser);
    assert!(store.user("user01").await.unwrap().is_none(), "a change makes no user");

    assert!(create(store, "user01", HASH).await);
    let user = store.user("user01").await.unwrap().unwrap();
    assert_eq!((user.username.as_str(), user.disabled, user.form()), ("user01", false, PasswordForm::Argon2id));
    assert_eq!(user.password.expose(), HASH);
    assert_eq!(user.id.unwrap().len(), 32);

    assert_eq!(store.set_disabled(user01.as_str(), true, NOW).await.unwrap(), UserChange::Done);
    assert_eq!(store.set_disabled(user01.as_str(), true, NOW).await.unwrap(), UserChange::Done);
    assert!(store.user("user01").await.unwrap().unwrap().disabled);
    assert_eq!(store.change_password(user01.as_str(), "$argon2id$new", 1_607_526_001).await.unwrap(), UserChange::Done);
    let user = store.user("user01").await.unwrap().unwrap();
    assert_eq!(
        (user.password.expose(), user.disabled),
        ("$argon2id$new", true),
        "a new password does not enable a user"
    );
    assert_eq!(store.set_disabled(user01.as_str(), false, NOW).await.unwrap(), UserChange::Done);
    assert!(!store.user("user01").await.unwrap().unwrap().disabled);

    assert_eq!(store.delete_user(user01.as_str(), NOW).await.unwrap(), UserChange::Done);
    assert!(store.user("user01").await.unwrap().is_none());
    assert!(create(store, "user01", HASH).await, "a name can be used again");
}

async fn names_are_exact(store: &Store) {
    assert!(create(store, "user01", HASH).await);
    assert!(create(store, "ときのそら", HASH).await);
    assert!(create(store, " user01", HASH).await);
    for other in ["USER01", "user01 ", "user0", "user011", "", ".*", "user01\0", "$user01"] {
        assert!(store.user(other).await.unwrap().is_none(), "{other:?}");
    }
    assert!(store.user("ときのそら").await.unwrap().is_some());
}

async fn a_username_is_unique(store: &Store) {
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { create(&store, "user01", &format!("$argon2id${n}")).await })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        created += usize::from(task.await.unwrap());
    }
    assert_eq!(created, 1);
    let winner = password(store, "user01").await;
    assert!(!create(store, "user01", HASH).await);
    assert_eq!(password(store, "user01").await, winner, "a name that is taken keeps its password");
    assert_eq!(store.users().await.unwrap().len(), 1);
}

async fn an_upgrade_replaces_only_the_value_it_was_computed_from(store: &Store) {
    assert!(!store.upgrade_password("user01", "password01", HASH).await.unwrap());
    assert!(create(store, "user01", "password01").await);
    assert!(create(store, "user02", "password01").await);
    assert!(!store.upgrade_password("user01", "password02", HASH).await.unwrap());
    assert_eq!(password(store, "user01").await.as_deref(), Some("password01"));
    assert!(store.upgrade_password("user01", "password01", HASH).await.unwrap());
    assert_eq!(password(store, "user01").await.as_deref(), Some(HASH));
    assert!(!store.upgrade_password("user01", "password01", "$argon2id$late").await.unwrap());
    assert_eq!(password(store, "user01").await.as_deref(), Some(HASH));
    assert_eq!(password(store, "user02").await.as_deref(), Some("password01"));
}

async fn the_list_is_sorted_and_has_no_passwords(store: &Store) {
    assert!(create(store, "b", "plain-secret").await);
    assert!(create(store, "a", HASH).await);
    assert!(create(store, "c", "$2b$12$damaged").await);
    store.set_disabled(name("b").as_str(), true, NOW).await.unwrap();
    let users = store.users().await.unwrap();
    let listed: Vec<_> = users.iter().map(|user| (user.username.as_str(), user.disabled, user.form)).collect();
    assert_eq!(
        listed,
        [
            ("a", false, Some(PasswordForm::Argon2id)),
            ("b", true, Some(PasswordForm::Plain)),
            ("c", false, Some(PasswordForm::Bcrypt)),
        ]
    );
    let text = format!("{users:?} {:?}", store.user("b").await.unwrap());
    assert!(!text.contains("plain-secret"));
}
