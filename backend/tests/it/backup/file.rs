//! Backup files: damage, names, and the commands that write and read them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use super::{Place, back_up, exported, fill, restore, users};
use crate::http;
use crate::program::{Program, succeeds};
use crate::service::Service;

#[tokio::test]
async fn a_damaged_file_changes_nothing() {
    let place = Place::new();
    for service in [place.embedded("store").await, place.mongo().await.1] {
        fill(&service).await;
        let _ = fs::remove_file(place.backup("a.backup"));
        back_up(&service, "a.backup").await;
        let whole = fs::read(place.backup("a.backup")).unwrap();
        let held = (users(&service).await, exported(&service).await);
        let lines = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let lines: Vec<usize> = lines.collect();
        let last = lines[lines.len() - 2];
        let mut changed = whole.clone();
        changed[last / 2] ^= 1;
        for (content, part) in [
            (&whole[..0], "is not a backup"),
            (&whole[..lines[0]], "cut short"),
            (&whole[..last / 2], "cut short"),
            (&whole[..last], "cut short"),
            (&whole[..whole.len() - 1], "cut short"),
            (&changed, "the backup "),
            (b"{\"holodule_backup\":4,\"created_at\":1}\n", "is of version 4"),
        ] {
            fs::write(place.backup("damaged"), content).unwrap();
            let refused = restore(&service, "damaged", true).await;
            assert_eq!(refused.status, 400, "{refused:?}");
            assert!(refused.body.contains(part), "{part}: {refused:?}");
        }
        assert_eq!((users(&service).await, exported(&service).await), held);
        assert_eq!(service.verify("user01", "password01").await.status, 200);
    }
}

#[tokio::test]
async fn names_are_never_paths_and_cross_site_requests_are_refused() {
    let place = Place::new();
    let service = place.embedded("store").await;
    service.user("user01", "password01").await;
    fs::write(place.folder.path().join("outside"), "x").unwrap();
    symlink("../outside", place.backup("link")).unwrap();
    for name in ["", ".", "..", "../outside", "/etc/passwd", "a/b", ".hidden", "a b", "%2e%2e"] {
        for path in ["/backup", "/restore"] {
            let refused = service.admin("POST", path, &json!({ "file": name }).to_string()).await;
            assert_eq!(refused.status, 400, "{path} {name}: {refused:?}");
        }
    }
    let back_up =
        async |name: &str| service.admin("POST", "/backup", &json!({ "file": name }).to_string()).await.status;
    assert_eq!((back_up("link").await, back_up("a").await, back_up("a").await), (409, 200, 409));
    assert_eq!(fs::read_to_string(place.folder.path().join("outside")).unwrap(), "x");
    let link = restore(&service, "link", true).await;
    assert_eq!(link.status, 400, "{link:?}");
    assert_eq!(restore(&service, "missing", true).await.status, 404);

    let json_type = ("Content-Type", "application/json");
    let body = r#"{"file":"b"}"#;
    for (headers, status) in [
        (vec![("Content-Type", "text/plain")], 415),
        (vec![], 415),
        (vec![json_type, ("Sec-Fetch-Site", "cross-site")], 403),
    ] {
        for path in ["/backup", "/restore"] {
            assert_eq!(http::send(&service.admin, "POST", path, &headers, body).await.status, status);
        }
    }
    let foreign = format!(
        "POST /backup HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(http::raw(&service.admin, &foreign).await.status, 421);
    assert_eq!(service.admin("GET", "/backup", "").await.status, 405);
    assert_eq!(http::send(&service.api, "POST", "/backup", &[json_type], body).await.status, 404);
    assert!(!place.backup("b").exists());

    let off = Service::start().await;
    for path in ["/backup", "/restore"] {
        let refused = off.admin("POST", path, body).await;
        assert_eq!(refused.status, 404);
        assert!(refused.body.contains("backup.folder is not set"), "{refused:?}");
    }
}

#[test]
fn backup_and_restore_by_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let start = |store: &str| Program::start(path, &[("BACKUP_FOLDER", "backups"), ("STORE", store)]);
    let refuses = |program: &Program, arguments: &[&str], part: &str| {
        let refused = program.run(path, arguments, "");
        let message = String::from_utf8(refused.stderr.clone()).unwrap();
        assert_eq!((refused.status.code(), message.contains(part)), (Some(1), true), "{refused:?}");
    };
    let program = start("embedded:first.redb");
    succeeds(&program.run(path, &["user", "add", "user01"], "password01\n"));
    refuses(&program, &["backup"], "the backup could not be written");
    fs::create_dir(path.join("backups")).unwrap();
    assert_eq!(succeeds(&program.run(path, &["backup", "a"], "")), "a: 1 user, 0 holodules, 0 logouts\n");
    let dated = succeeds(&program.run(path, &["backup"], ""));
    assert!(dated.starts_with("holodule-20") && dated.contains("Z.backup: 1 user,"), "{dated}");
    refuses(&program, &["backup", "a"], "a file of this name already exists (409 Conflict)");
    refuses(&program, &["restore", "a"], "the store is not empty");
    program.terminate();

    let program = start("embedded:second.redb");
    let output = succeeds(&program.run(path, &["restore", "a"], ""));
    assert_eq!(
        output,
        "a: 1 user, 0 holodules, 0 logouts\nall tokens issued before are revoked: users must log in again\n"
    );
    assert_eq!(succeeds(&program.run(path, &["user", "list"], "")), "user01\tenabled\targon2id\n");
    succeeds(&program.run(path, &["restore", "a", "--replace"], ""));
    program.terminate();
    assert_log_is_clean(&path.join("log"));
}

fn assert_log_is_clean(log: &Path) {
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("backup restored") && !log.contains("argon2id"), "{log}");
}
