//! SIGHUP: what changes while the program runs, and what does not.

use std::fs;
use std::path::Path;

use crate::http;
use crate::program::{Program, folder, wait_for};

/// The lines of the program's log that hold `what`.
fn lines(folder: &Path, what: &str) -> usize {
    fs::read_to_string(folder.join("log")).unwrap().lines().filter(|line| line.contains(what)).count()
}

async fn healthz(program: &Program) -> u16 {
    http::send(program.admin(), "GET", "/healthz", &[], "").await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_changes_the_level_of_the_log_and_ends_nothing() {
    let folder = folder();
    let path = folder.path();
    let file = path.join("backend.toml");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("[log]\nlevel = 'warn'\n");
    let program = Program::start(path, &[("HOLODULE_BACKEND_CONFIG", file.to_str().unwrap())]);
    assert_eq!(healthz(&program).await, 200);

    write("[log]\nlevel = 'info'\n");
    program.signal("-HUP");
    wait_for("the line of the reload", || (lines(path, "the configuration was read again") == 1).then_some(()));
    assert_eq!(lines(path, "need a restart"), 0);
    assert_eq!(lines(path, "\"target\":\"access\""), 0, "they were below the level");
    assert_eq!(healthz(&program).await, 200);
    wait_for("a line of the access log", || (lines(path, "\"target\":\"access\"") == 1).then_some(()));

    write("drain = 'hush'\n");
    program.signal("-HUP");
    wait_for("the refusal", || (lines(path, "is refused: nothing changes") == 1).then_some(()));
    assert_eq!((lines(path, "hush"), healthz(&program).await), (0, 200));

    write("drain = 1\n[log]\nlevel = 'warn'\n");
    program.signal("-HUP");
    wait_for("the note", || (lines(path, "need a restart") == 1).then_some(()));
    let before = lines(path, "\"target\":\"access\"");
    assert_eq!(healthz(&program).await, 200);
    assert_eq!(program.terminate(), 0);
    assert_eq!(lines(path, "\"target\":\"access\""), before, "the level holds");
}
