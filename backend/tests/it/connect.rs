//! `check --connect`, and a server that rejects the program's login.

use std::fs;
use std::path::Path;

use mongodb::Client;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, Document, doc};

use crate::mongod::Server;
use crate::program::{Program, command, folder, succeeds, text, wait_for};

const SECRETS: [&str; 2] = ["hush", "holo"];

fn check(folder: &Path, url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command(folder).arg("check").args(arguments).env("STORE", url).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn no_secret(text: &str) {
    for secret in SECRETS {
        // The names of the program and the database begin alike.
        let text = text.replace("holodule", "");
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_connect_contacts_the_store_and_lists_undated_holodules() {
    let url = tokio::task::spawn_blocking(|| Server::shared().fresh_url()).await.unwrap();
    let database = Client::with_uri_str(&url).await.unwrap().default_database().unwrap();
    let id = ObjectId::new();
    let documents = [
        doc! { "datetime": "20201209 230000", "video_id": "aaaaaaaaaaa" },
        doc! { "_id": id, "datetime": DateTime::from_millis(0), "video_id": "bbbbbbbbbbb" },
    ];
    database.collection::<Document>("holodules").insert_many(documents).await.unwrap();
    let folder = folder();
    let (code, out, _) = check(folder.path(), &url, &["--connect"]);
    assert_eq!(code, Some(0), "{out}");
    let line =
        format!("warning: the holodule with _id {} is not listed under any day: its datetime is a date\n", id.to_hex());
    assert!(out.contains(&line) && out.contains("warning: not listed under any day: 1 holodule\n"), "{out}");
    assert!(out.ends_with("can be used\n"), "{out}");
    let names = database.collection::<Document>("holodules").list_index_names().await.unwrap();
    assert_eq!(names, ["_id_"], "nothing was written");

    // The same ids, once in the log of the program, and counted.
    let program = Program::start(folder.path(), &[("STORE", &url)]);
    let logged = || fs::read_to_string(folder.path().join("log")).unwrap().matches(&id.to_hex()).count();
    wait_for("the line", || (logged() == 1).then_some(()));
    assert_eq!(program.terminate(), 0);
    assert_eq!(logged(), 1);
}

#[test]
fn check_without_connect_contacts_no_server_and_names_unsupported_options() {
    let folder = folder();
    let url = "mongodb+srv://holo:hush@db.invalid/x?socketTimeoutMS=1&compressors=zlib";
    let (code, out, err) = check(folder.path(), url, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("warning: store: socketTimeoutMS has no effect"), "{out}");
    assert!(out.contains("warning: store: compressors has no effect"), "{out}");
    let (code, out, err) = check(folder.path(), url, &["--connect"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("mongodb+srv://db.invalid/x"), "{err}");
    no_secret(&(out + &err));
    let (code, out, err) = check(folder.path(), "mongodb://holo:hush@h/?tsl=true", &[]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains("store") && err.contains("tsl is an invalid option"), "{err}");
    no_secret(&err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_login_is_logged_as_an_error_with_the_server() {
    let server = tokio::task::spawn_blocking(|| Server::start(&["--auth", "holo:s3cret"])).await.unwrap();
    let (right, wrong) = (server.url(), server.url().replace("s3cret", "hush"));
    let place = server.url().rsplit('@').next().unwrap().split('?').next().unwrap();
    let folder = folder();
    let (code, out, err) = check(folder.path(), &wrong, &["--connect"]);
    assert_eq!(code, Some(1), "{out}");
    assert!(err.contains(place) && err.contains("rejects the login"), "{err}");
    no_secret(&(out + &err));
    let right = command(folder.path()).args(["check", "--connect"]).env("STORE", right).output().unwrap();
    assert!(succeeds(&right).ends_with("can be used\n"));

    let program = Program::start(folder.path(), &[("STORE", &wrong)]);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    let refused = |log: &str| log.lines().filter(|line| line.contains("MongoDB is unavailable")).count();
    wait_for("the second error", || (refused(&log()) >= 2).then_some(()));
    assert_eq!(program.terminate(), 0);
    let log = log();
    for line in log.lines().filter(|line| line.contains("rejects the login")) {
        assert!(line.contains(place), "{line}");
    }
    let errors: Vec<_> = log.lines().filter(|line| line.contains("MongoDB is unavailable")).collect();
    assert!(
        errors.iter().all(|line| line.contains("rejects the login") && line.contains("\"level\":\"ERROR\"")),
        "{log}"
    );
    assert!(errors[0].contains("\"retry_s\":0.5") && errors[1].contains("\"retry_s\":1.0"), "{errors:?}");
    no_secret(&log);
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
