//! A backup on a full disk.

use std::path::PathBuf;

use serde_json::json;

use crate::contract::disk::{FOLDER, names, on_a_small_disk};
use crate::service::{Service, Setup, holodule};

#[tokio::test]
async fn a_full_disk_is_not_a_failure_of_the_store() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        return on_a_small_disk("backup::disk::a_full_disk_is_not_a_failure_of_the_store", "64k");
    };
    let mut setup = Setup::default();
    setup.handler.backup_folder = Some(folder.clone());
    // Its store is in another folder.
    let service = Service::with(setup).await;
    // More than the disk and the queue between reader and writer can hold.
    service.holodules((0..2000).map(|number| holodule(number, "20201209 230000"))).await;
    let reply = service.admin("POST", "/backup", &json!({ "file": "a.backup" }).to_string()).await;
    assert_eq!(reply.status, 500, "{reply:?}");
    assert!(reply.body.contains("the backup could not be written: No space left"), "{reply:?}");
    for kind in ["unavailable", "failed"] {
        assert_eq!(service.metric(&format!("backend_store_errors_total{{kind=\"{kind}\"}}")).await, 0.0, "{kind}");
    }
    assert!(names(&folder).is_empty(), "no draft is left");
    service.stop().await.unwrap();
}
