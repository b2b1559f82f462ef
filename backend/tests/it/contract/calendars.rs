//! Calendar feeds.

use holodule_backend::model::{
    CALENDARS_LIMIT, Calendar, CalendarKey, Delivered, DeliveredEvent, DeliveredRevision, Filter, NewUser, Roles,
    Saved, SavedUser, StoredPassword, Username,
};
use holodule_backend::store::{CalendarCreated, DisabledUser, Store};
use mongodb::bson::{Bson, doc, rawdoc};

use super::mongo::{database, open};
use super::{NOW, on_both_engines};

on_both_engines!(
    a_feed_is_found_by_its_key,
    a_user_has_a_limited_number_of_feeds,
    only_the_owner_can_delete_a_feed,
    feeds_end_with_the_user,
    concurrent_states_do_not_replace_each_other,
    a_new_user_of_the_same_name_has_no_feeds,
    the_feed_of_a_disabled_user_in_a_backup_is_not_restored_by_enabling_the_user,
);

async fn add(store: &Store, username: &str) {
    let user = NewUser {
        username: Username::parse(username).unwrap(),
        hash: StoredPassword::new("password"),
        created_at: NOW,
    };
    assert!(store.create_user(user).await.unwrap());
}

fn feed(id: &str, owner: &str) -> (CalendarKey, Calendar) {
    let key = CalendarKey::random().unwrap();
    let filter = Filter { codes: ["HL0501".to_owned()].into(), ..Filter::default() };
    let calendar = Calendar {
        id: id.into(),
        owner: owner.into(),
        owner_id: None,
        key_hash: key.hash(),
        label: Some("推し".into()),
        filter,
        created_at: NOW,
    };
    (key, calendar)
}

async fn create(store: &Store, id: &str, owner: &str) -> CalendarKey {
    let (key, calendar) = feed(id, owner);
    assert_eq!(store.create_calendar(calendar).await.unwrap(), CalendarCreated::Done);
    key
}

async fn ids(store: &Store, owner: &str) -> Vec<String> {
    store.calendars(owner).await.unwrap().into_iter().map(|calendar| calendar.id).collect()
}

async fn is_served(store: &Store, key: &CalendarKey) -> bool {
    store.calendar(&key.hash()).await.unwrap().is_some()
}

async fn a_feed_is_found_by_its_key(store: &Store) {
    add(store, "user01").await;
    let (key, calendar) = feed("0a", "user01");
    assert_eq!(store.create_calendar(calendar.clone()).await.unwrap(), CalendarCreated::Done);
    let (found, delivered) = store.calendar(&key.hash()).await.unwrap().unwrap();
    assert!(found.owner_id.is_some(), "it is bound to the user, not to the name");
    let expected = Calendar { owner_id: found.owner_id.clone(), ..calendar };
    assert_eq!((&found, delivered), (&expected, DeliveredRevision::default()));
    assert_eq!(store.calendars("user01").await.unwrap(), [expected]);
    assert!(!is_served(store, &CalendarKey::random().unwrap()).await);
    let (_, orphan) = feed("0b", "unknown");
    assert_eq!(store.create_calendar(orphan).await.unwrap(), CalendarCreated::NoSuchUser);
    assert_eq!(ids(store, "unknown").await, Vec::<String>::new());
}

async fn a_user_has_a_limited_number_of_feeds(store: &Store) {
    add(store, "user01").await;
    add(store, "user02").await;
    for number in 0..CALENDARS_LIMIT {
        create(store, &format!("{number:02}"), "user01").await;
    }
    assert_eq!(ids(store, "user01").await.len(), CALENDARS_LIMIT);
    let (key, calendar) = feed("ff", "user01");
    assert_eq!(store.create_calendar(calendar).await.unwrap(), CalendarCreated::TooMany);
    assert!(!is_served(store, &key).await);
    create(store, "fe", "user02").await;
    assert!(store.delete_calendar("user01", "00").await.unwrap());
    create(store, "fd", "user01").await;
}

async fn only_the_owner_can_delete_a_feed(store: &Store) {
    add(store, "user01").await;
    add(store, "user02").await;
    let key = create(store, "0a", "user01").await;
    assert!(!store.delete_calendar("user02", "0a").await.unwrap());
    assert!(!store.delete_calendar("user01", "0b").await.unwrap());
    assert!(is_served(store, &key).await);
    assert!(store.delete_calendar("user01", "0a").await.unwrap());
    assert!(!is_served(store, &key).await && ids(store, "user01").await.is_empty());
    assert!(!store.delete_calendar("user01", "0a").await.unwrap());
    assert!(!store.store_delivered("0a", 0, Delivered::default()).await.unwrap(), "its state is not stored again");
}

async fn feeds_end_with_the_user(store: &Store) {
    for (number, user) in ["user01", "user02", "user"].iter().enumerate() {
        add(store, user).await;
        create(store, &format!("0{number}"), user).await;
    }
    let disabled = create(store, "1a", "user01").await;
    let deleted = create(store, "1b", "user02").await;
    store.set_disabled("user01", true, NOW).await.unwrap();
    store.delete_user("user02", NOW).await.unwrap();
    assert!(!is_served(store, &disabled).await && !is_served(store, &deleted).await);
    store.set_disabled("user01", false, NOW).await.unwrap();
    add(store, "user02").await;
    assert!(!is_served(store, &disabled).await && !is_served(store, &deleted).await);
    assert!(ids(store, "user01").await.is_empty() && ids(store, "user02").await.is_empty());
    assert_eq!(ids(store, "user").await, ["02"], "that of a user with a similar name remains");
    store.set_disabled("user", false, NOW).await.unwrap();
    store.change_password("user", "other", NOW).await.unwrap();
    assert_eq!(ids(store, "user").await, ["02"]);
}

async fn concurrent_states_do_not_replace_each_other(store: &Store) {
    add(store, "user01").await;
    let key = create(store, "0a", "user01").await;
    let state = |sequence| {
        let event = DeliveredEvent {
            digest: "d".into(),
            sequence,
            modified: NOW,
            starts_at: NOW,
            summary: "夜, \"odd\"".into(),
            cancelled_at: Some(NOW),
        };
        Delivered { events: [("a.b$c@video.holodule.invalid".to_owned(), event)].into() }
    };
    assert!(store.store_delivered("0a", 0, state(1)).await.unwrap());
    assert!(!store.store_delivered("0a", 0, state(2)).await.unwrap(), "another write was first");
    let (_, stored) = store.calendar(&key.hash()).await.unwrap().unwrap();
    assert_eq!(stored, DeliveredRevision { revision: 1, delivered: state(1) });
    let both = tokio::join!(store.store_delivered("0a", 1, state(3)), store.store_delivered("0a", 1, state(4)));
    let (three, four) = (both.0.unwrap(), both.1.unwrap());
    assert!(three != four, "exactly one is stored");
    let (_, stored) = store.calendar(&key.hash()).await.unwrap().unwrap();
    assert_eq!(stored, DeliveredRevision { revision: 2, delivered: state(if three { 3 } else { 4 }) });
}

#[tokio::test]
async fn a_feed_with_a_revision_of_any_type_is_stored() {
    let (database, url) = database().await;
    let store = open(&url).await;
    add(&store, "user01").await;
    let key = create(&store, "0a", "user01").await;
    let feeds = database.collection::<mongodb::bson::Document>("holodule_calendars");
    let id = doc! { "_id": "0a" };
    feeds.update_one(id.clone(), doc! { "$unset": { "revision": "" } }).await.unwrap();
    let numbers =
        [f64::NAN, f64::INFINITY, 1e300, -1e300, 9_223_372_036_854_775_808.0, 0.0, -0.5, 3.0, 7.9, -7.9, 1e18];
    let stored = [Bson::Int32(5), Bson::Int64(6), Bson::Int64(-1), Bson::Null, "5".into(), true.into()];
    let decimal = Bson::Decimal128("5".parse().unwrap());
    let all = numbers.map(Bson::Double).into_iter().chain(stored).chain([decimal]).map(Some);
    for stored in [None].into_iter().chain(all) {
        if let Some(stored) = &stored {
            feeds.update_one(id.clone(), doc! { "$set": { "revision": stored } }).await.unwrap();
        }
        let read = async || store.calendar(&key.hash()).await.unwrap().unwrap().1.revision;
        let before = read().await;
        assert!(store.store_delivered("0a", before, Delivered::default()).await.unwrap(), "{stored:?}: {before}");
        assert_eq!(read().await, before + 1, "{stored:?}");
        assert!(!store.store_delivered("0a", before, Delivered::default()).await.unwrap(), "another write was first");
    }
}

async fn a_new_user_of_the_same_name_has_no_feeds(store: &Store) {
    add(store, "user01").await;
    let key = create(store, "0a", "user01").await;
    store.delete_user("user01", NOW).await.unwrap();
    add(store, "user01").await;
    assert!(ids(store, "user01").await.is_empty() && !is_served(store, &key).await);
    let other = create(store, "0b", "user01").await;
    assert!(is_served(store, &other).await);
}

async fn the_feed_of_a_disabled_user_in_a_backup_is_not_restored_by_enabling_the_user(store: &Store) {
    let (key, calendar) = feed("0a", "user01");
    let user = SavedUser {
        username: "user01".into(),
        id: Some("1".into()),
        password: StoredPassword::new("password"),
        disabled: true,
        roles: Roles::default(),
        created_at: None,
        password_changed_at: None,
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    for record in [Saved::Calendar(Box::new(calendar)), Saved::User(user)] {
        sender.send(Ok(record)).await.unwrap();
    }
    drop(sender);
    store.restore(receiver, false, NOW).await.unwrap();
    store.set_disabled("user01", false, NOW).await.unwrap();
    assert!(!is_served(store, &key).await && ids(store, "user01").await.is_empty());
}

/// A user with a feed on MongoDB, and what disables or enables the user directly in the database.
async fn on_mongo() -> (Store, CalendarKey, impl AsyncFn(bool)) {
    let (database, url) = database().await;
    let store = open(&url).await;
    add(&store, "user01").await;
    let key = create(&store, "0a", "user01").await;
    let users = database.collection::<mongodb::bson::Document>("users");
    let set = async move |disabled: bool| {
        let set = doc! { "$set": { "disabled": disabled } };
        users.update_one(doc! { "username": "user01" }, set).await.unwrap();
    };
    (store, key, set)
}

#[tokio::test]
async fn a_read_ends_the_feeds_of_a_user_who_was_disabled_in_the_database() {
    let (store, key, set_disabled) = on_mongo().await;
    let other = create(&store, "0b", "user01").await;
    assert!(is_served(&store, &key).await);
    set_disabled(true).await;
    assert!(!is_served(&store, &key).await);
    set_disabled(false).await;
    assert!(!is_served(&store, &key).await && !is_served(&store, &other).await);
    assert!(ids(&store, "user01").await.is_empty());
    let new = create(&store, "0c", "user01").await;
    assert!(is_served(&store, &new).await);
}

#[tokio::test]
async fn the_feeds_of_users_who_were_disabled_in_the_database_are_found_without_a_read() {
    let (store, key, set_disabled) = on_mongo().await;
    add(&store, "user02").await;
    let other = create(&store, "0b", "user02").await;
    assert_eq!(store.end_calendars_of_disabled().await.unwrap(), 0);
    set_disabled(true).await;
    assert_eq!(store.end_calendars_of_disabled().await.unwrap(), 1);
    set_disabled(false).await;
    assert!(!is_served(&store, &key).await && is_served(&store, &other).await);
}

#[tokio::test]
async fn the_feeds_that_end_with_a_disabled_user_are_those_that_the_server_stored_before() {
    let (database, url) = database().await;
    let store = open(&url).await;
    add(&store, "user01").await;
    let (_, of_a_slow_clock) = feed("0a", "user01");
    let of_a_slow_clock = Calendar { created_at: 1, ..of_a_slow_clock };
    assert_eq!(store.create_calendar(of_a_slow_clock).await.unwrap(), CalendarCreated::Done);
    let feeds = database.collection::<mongodb::bson::Document>("holodule_calendars");
    let stored_at = feeds.find_one(doc! {}).await.unwrap().unwrap().get_timestamp("stored_at").unwrap();
    let end = async |id: &str, at| {
        let document = rawdoc! { "_id": id }.into_bytes();
        store.end_calendars(&DisabledUser { username: "user01".to_owned(), document, at }).await.unwrap()
    };
    assert_eq!(end("user01", (stored_at.time, stored_at.increment - 1)).await, 0, "stored later");
    assert_eq!(end("user02", (u32::MAX, 0)).await, 0, "another document of that name");
    assert_eq!(end("user01", (stored_at.time, stored_at.increment + 1)).await, 1);
    // Stored by an earlier version.
    create(&store, "0b", "user01").await;
    feeds.update_one(doc! {}, doc! { "$unset": { "stored_at": "" } }).await.unwrap();
    let now = u32::try_from(NOW).unwrap();
    assert_eq!(end("user01", (now - 1, 0)).await, 0, "created later");
    assert_eq!(end("user01", (now, 0)).await, 1);
}

#[tokio::test]
async fn enabling_a_user_who_was_disabled_in_the_database_does_not_restore_feeds() {
    let (store, key, set_disabled) = on_mongo().await;
    set_disabled(true).await;
    store.set_disabled("user01", false, NOW).await.unwrap();
    assert!(!is_served(&store, &key).await && ids(&store, "user01").await.is_empty());
}
