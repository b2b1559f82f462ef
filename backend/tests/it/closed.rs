//! Commands that change something, whose output cannot be written: they finish their work.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use crate::program::{Program, command, folder, succeeds, text};

const HEADER: &str = "key,video_id,datetime,name,title,url,description";

/// The writing end of a pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Stdio::from(writer)
}

/// The exit status and the errors of a command with this standard output.
fn status(path: &Path, arguments: &[&str], input: &str, output: Stdio) -> (i32, String) {
    fs::write(path.join("input"), input).unwrap();
    let input = File::open(path.join("input")).unwrap();
    let output = command(path).args(arguments).stdin(input).stdout(output).output().unwrap();
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn an_import_continues_with_the_next_file() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let admin = program.url();
    let row = |video: &str| format!("{HEADER}\n,{video},2027/1/1 20:00,n,t,,\n");
    // The separator is reported before the upload.
    fs::write(path.join("a.csv"), row("aaaaaaaaaaa").replace(',', ";")).unwrap();
    fs::write(path.join("b.csv"), row("bbbbbbbbbbb")).unwrap();
    fs::write(path.join("c.csv"), row("ccccccccccc") + ",xxxxxxxxxxx,soon,n,t,,\n").unwrap();
    fs::write(path.join("d.csv"), row("ddddddddddd")).unwrap();
    let import = |files: &[&str], output| status(path, &[&["import", "--admin", &admin], files].concat(), "", output);
    let stored = |video: &str| succeeds(&program.run(path, &["export"], "")).contains(video);

    assert_eq!(import(&["a.csv", "b.csv"], closed()), (141, String::new()));
    assert!(stored("aaaaaaaaaaa") && stored("bbbbbbbbbbb"));
    assert_eq!(import(&["c.csv", "d.csv"], closed()), (2, String::new()), "a row was rejected");
    assert!(stored("ccccccccccc") && stored("ddddddddddd") && path.join("c.csv.rejects.csv").exists());
    let (failed, errors) = import(&["a.csv", "none.csv"], closed());
    assert_eq!(failed, 1);
    assert!(errors.contains("none.csv: "), "{errors}");

    fs::write(path.join("e.csv"), row("eeeeeeeeeee")).unwrap();
    fs::write(path.join("f.csv"), row("fffffffffff")).unwrap();
    let (failed, errors) = import(&["e.csv", "f.csv"], File::create("/dev/full").unwrap().into());
    assert_eq!(failed, 1);
    assert!(errors.contains("done, but the result cannot be written: No space left on device"), "{errors}");
    assert!(stored("eeeeeeeeeee") && stored("fffffffffff"));
}

#[test]
fn rejects_that_nobody_reads_do_not_end_an_import() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    fs::write(path.join("next.csv"), format!("{HEADER}\n,bbbbbbbbbbb,2027/1/1 20:00,n,t,,\n")).unwrap();
    fs::write(path.join("input"), format!("{HEADER}\n,aaaaaaaaaaa,soon,n,t,,\n")).unwrap();
    let mut import = command(path);
    import.args(["import", "--format", "csv", "-", "next.csv", "--admin", &program.url()]);
    let input = File::open(path.join("input")).unwrap();
    let ended = import.stdin(input).stdout(closed()).stderr(closed()).status().unwrap();
    assert_eq!(ended.code(), Some(2));
    assert!(succeeds(&program.run(path, &["export"], "")).contains("bbbbbbbbbbb"));
}

#[test]
fn users_and_streamers_are_changed() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let admin = program.url();
    let changes = |arguments: &[&str], input: &str, list: &[&str], expected: &str| {
        let all = [arguments, &["--admin", &admin]].concat();
        assert_eq!(status(path, &all, input, closed()), (141, String::new()), "{arguments:?}");
        assert_eq!(succeeds(&program.run(path, list, "")), expected, "{arguments:?}");
    };
    let users = ["user", "list"];
    changes(&["user", "add", "user01"], "password01\n", &users, "user01\tenabled\targon2id\n");
    changes(&["user", "passwd", "user01"], "password02\n", &users, "user01\tenabled\targon2id\n");
    changes(&["user", "disable", "user01"], "", &users, "user01\tdisabled\targon2id\n");
    changes(&["user", "enable", "user01"], "", &users, "user01\tenabled\targon2id\n");
    changes(&["user", "role", "add", "user01", "viewer"], "", &users, "user01\tenabled\targon2id\tviewer\n");
    changes(&["user", "role", "remove", "user01", "viewer"], "", &users, "user01\tenabled\targon2id\n");
    changes(&["user", "role", "set", "user01", "editor"], "", &users, "user01\tenabled\targon2id\teditor\n");
    changes(&["user", "delete", "user01"], "", &users, "");
    let file = "code,name,group\nHL0001,n,g\n";
    changes(&["streamers", "import", "-"], file, &["streamers", "list"], "HL0001\tn\tg\t\n");
}

/// Responds to one request with a report, and returns the value of `--admin` for it.
fn reporting(report: &serde_json::Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = report.to_string();
    std::thread::spawn(move || {
        let mut request = BufReader::new(listener.accept().unwrap().0);
        let mut length = 0;
        loop {
            let mut line = String::new();
            request.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        request.read_exact(&mut vec![0; length]).unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
        write!(request.get_mut(), "{head} {}\r\n\r\n{body}", body.len()).unwrap();
    });
    url
}

#[test]
fn backup_and_restore_report_what_is_missing() {
    let folder = folder();
    let path = folder.path();
    for (name, missing, message) in [
        ("backup", "unreadable", "left out: 2 documents that could not be read"),
        ("restore", "duplicates", "left out: 2 holodules with the video_id of another one"),
    ] {
        let mut report = serde_json::json!({
            "file": "a.backup", "users": 1, "holodules": 1, "logouts": 0, "consistent": false, "unreadable": 0,
        });
        let run = |report: &_| status(path, &[name, "a.backup", "--admin", &reporting(report)], "", closed());
        assert_eq!(run(&report), (141, String::new()), "{name}");
        report[missing] = 2.into();
        let (code, errors) = run(&report);
        assert_eq!(code, 2, "{name}: {errors}");
        assert!(errors.contains(message), "{errors}");

        let mut unheard = command(path);
        unheard.args([name, "a.backup", "--admin", &reporting(&report)]).stdout(closed()).stderr(closed());
        assert_eq!(unheard.status().unwrap().code(), Some(2), "{name}");
    }
}
