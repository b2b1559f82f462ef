//! Writes under a condition.

use futures_util::future::join_all;
use holodule_backend::model::{Holodule, Identifier, Precondition, ValidHolodule, Versions, entity_tag};
use holodule_backend::store::{Store, Upserted};

use super::{entry, on_both_engines};

on_both_engines!(
    a_write_needs_the_version_of_its_condition,
    one_of_several_writers_creates_or_changes_a_version,
    a_deletion_needs_the_version_of_its_condition,
    an_empty_code_is_removed,
);

const VIDEO: &str = "aaaaaaaaaaa";

fn id() -> Identifier {
    Identifier::parse(VIDEO).unwrap()
}

fn titled(title: &str) -> ValidHolodule {
    let holodule = entry("", VIDEO, "20201209 100000").into_holodule();
    ValidHolodule::new(Holodule { title: Some(title.into()), ..holodule }).unwrap()
}

async fn stored(store: &Store) -> Option<Holodule> {
    store.find_holodules(&id()).await.unwrap().pop().map(|found| found.holodule.unwrap())
}

fn new() -> Precondition {
    Precondition { one_of: None, none_of: Some(Versions::Any) }
}

fn of(holodule: &Holodule) -> Precondition {
    Precondition { one_of: Some(Versions::Tagged(vec![entity_tag(holodule).unwrap()])), none_of: None }
}

async fn a_write_needs_the_version_of_its_condition(store: &Store) {
    let any = Precondition { one_of: Some(Versions::Any), none_of: None };
    assert_eq!(store.upsert_if(titled("a"), &any).await.unwrap(), None);
    assert_eq!(store.upsert_if(titled("a"), &new()).await.unwrap(), Some(Upserted::Inserted));
    assert_eq!(store.upsert_if(titled("b"), &new()).await.unwrap(), None, "it exists");
    let first = stored(store).await.unwrap();
    assert_eq!(first.title.as_deref(), Some("a"));
    assert_eq!(store.upsert_if(titled("a"), &of(&first)).await.unwrap(), Some(Upserted::Unchanged));
    assert_eq!(store.upsert_if(titled("b"), &of(&first)).await.unwrap(), Some(Upserted::Updated));
    assert_eq!(store.upsert_if(titled("c"), &of(&first)).await.unwrap(), None, "it is another version");
    let not_first = Precondition { one_of: None, none_of: of(&first).one_of };
    assert_eq!(store.upsert_if(titled("d"), &not_first).await.unwrap(), Some(Upserted::Updated));
    assert_eq!(stored(store).await.unwrap().title.as_deref(), Some("d"));
}

async fn one_of_several_writers_creates_or_changes_a_version(store: &Store) {
    let condition = new();
    let created = join_all((0..8).map(|n| store.upsert_if(titled(&n.to_string()), &condition))).await;
    let created: Vec<_> = created.into_iter().map(Result::unwrap).collect();
    assert_eq!(created.iter().filter(|outcome| **outcome == Some(Upserted::Inserted)).count(), 1, "{created:?}");
    assert_eq!(created.iter().filter(|outcome| outcome.is_none()).count(), 7, "{created:?}");
    let condition = of(&stored(store).await.unwrap());
    let changed = join_all((8..16).map(|n| store.upsert_if(titled(&n.to_string()), &condition))).await;
    let changed: Vec<_> = changed.into_iter().map(Result::unwrap).collect();
    assert_eq!(changed.iter().filter(|outcome| **outcome == Some(Upserted::Updated)).count(), 1, "{changed:?}");
    assert_eq!(changed.iter().filter(|outcome| outcome.is_none()).count(), 7, "{changed:?}");
}

async fn a_deletion_needs_the_version_of_its_condition(store: &Store) {
    store.upsert(vec![titled("a")]).await.unwrap();
    let first = stored(store).await.unwrap();
    store.upsert(vec![titled("b")]).await.unwrap();
    assert_eq!(store.delete_if(&id(), &of(&first)).await.unwrap(), None);
    let second = stored(store).await.unwrap();
    assert_eq!(second.title.as_deref(), Some("b"));
    assert_eq!(store.delete_if(&id(), &of(&second)).await.unwrap(), Some(true));
    assert_eq!(store.delete_if(&id(), &of(&second)).await.unwrap(), Some(false), "nothing is left to protect");
    assert_eq!(stored(store).await, None);
}

async fn an_empty_code_is_removed(store: &Store) {
    let coded =
        |code: &str| ValidHolodule::new(Holodule { code: Some(code.into()), ..titled("a").into_holodule() }).unwrap();
    store.upsert(vec![coded("HL0503")]).await.unwrap();
    assert_eq!(stored(store).await.unwrap().code.as_deref(), Some("HL0503"));
    assert_eq!(store.upsert(vec![coded("")]).await.unwrap(), [Upserted::Updated]);
    assert_eq!(stored(store).await.unwrap().code, None);
    assert_eq!(store.upsert(vec![coded("")]).await.unwrap(), [Upserted::Unchanged]);
}
