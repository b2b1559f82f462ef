//! Reads of single holodules.

use holodule_backend::model::Identifier;
use holodule_backend::store::Store;

use super::{entry, holodule, on_both_engines};

on_both_engines!(the_first_is_what_a_deletion_removes,);

/// The titles of what is found.
async fn titles(store: &Store, id: &str) -> Vec<String> {
    let found = store.find_holodules(&Identifier::parse(id).unwrap()).await.unwrap();
    assert!(found.iter().all(|found| found.is_exact), "{found:?}");
    found.into_iter().map(|found| found.holodule.unwrap().key.unwrap()).collect()
}

async fn the_first_is_what_a_deletion_removes(store: &Store) {
    let key = "HL0501_20201209_100000";
    let entries = [
        entry(key, "", "20201209 120000"),
        entry(key, "aaaaaaaaaaa", "20201209 110000"),
        entry(key, "bbbbbbbbbbb", "20201209 100000"),
    ];
    store.upsert(entries.to_vec()).await.unwrap();
    assert_eq!(titles(store, "bbbbbbbbbbb").await, [key]);
    assert_eq!(titles(store, "ccccccccccc").await, [""; 0]);
    assert_eq!(titles(store, "HL0501_20201209_100001").await, [""; 0]);

    let id = Identifier::parse(key).unwrap();
    for (video_id, count) in [("", 3), ("aaaaaaaaaaa", 2), ("bbbbbbbbbbb", 1)] {
        let found = store.find_holodules(&id).await.unwrap();
        assert_eq!(found.len(), count);
        let found = found[0].holodule.clone().unwrap();
        assert_eq!(found.video_id.as_deref(), Some(video_id), "without a video first, then the oldest");
        assert_eq!(found.title, holodule(key, "", "").title);
        assert!(store.delete_holodule(&id).await.unwrap());
    }
    assert_eq!(store.find_holodules(&id).await.unwrap(), []);
}
