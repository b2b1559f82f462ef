//! The output of `export`: files, links, pipes and devices, as root and as another user.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::program::{Program, SAMPLE, command, folder, run, succeeds, text};

const STREAMERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/sample/streamers.csv");

/// A user and a group other than this process's.
const OTHER: (u32, u32) = (65_534, 65_534);

fn loaded(path: &Path) -> Program {
    let program = Program::start(path, &[]);
    succeeds(&program.run(path, &["import", SAMPLE, "--rejects", "rejects.csv"], ""));
    program
}

fn metadata(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

#[test]
fn a_file_keeps_its_mode_and_owner_and_a_new_one_is_private() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    let export = |output: &str| succeeds(&program.run(path, &["export", "--format", "csv", "--output", output], ""));
    export("new.csv");
    let (mode, user, group) = metadata(&path.join("new.csv"));
    assert_eq!(mode, 0o600);
    let whole = fs::read(path.join("new.csv")).unwrap();

    let old = path.join("old.csv");
    fs::write(&old, "old").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
    let owner = if user == 0 { OTHER } else { (user, group) };
    chown(&old, Some(owner.0), Some(owner.1)).unwrap();
    symlink("old.csv", path.join("link.csv")).unwrap();
    export("link.csv");
    assert_eq!(metadata(&old), (0o640, owner.0, owner.1));
    assert!(fs::symlink_metadata(path.join("link.csv")).unwrap().is_symlink());
    assert_eq!(fs::read(&old).unwrap(), whole);
}

#[test]
fn pipes_and_devices_are_written_to() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    let export = |output: &str| program.run(path, &["export", "--format", "csv", "--output", output], "");
    assert!(Command::new("mkfifo").arg(path.join("fifo")).status().unwrap().success());
    let reader = std::thread::spawn({
        let fifo = path.join("fifo");
        move || fs::read(fifo).unwrap()
    });
    succeeds(&export("fifo"));
    let whole = fs::read(SAMPLE).unwrap();
    assert_eq!(reader.join().unwrap().len(), whole.len());
    assert!(fs::symlink_metadata(path.join("fifo")).unwrap().file_type().is_fifo());

    // Through a link, so that a bug cannot damage the machine's device.
    symlink("/dev/null", path.join("null")).unwrap();
    succeeds(&export("null"));
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(export("/dev/stdout").stdout.len(), whole.len());

    // The shell's open file is shared, not replaced: nothing before or after is lost.
    let shared = "echo before; \"$0\" export --admin \"$1\" --format csv --output /dev/stdout; echo after";
    let out = File::create(path.join("out")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", shared, env!("CARGO_BIN_EXE_holodule-backend"), &program.url()]).current_dir(path).stdout(out);
    assert!(shell.status().unwrap().success());
    let out = fs::read_to_string(path.join("out")).unwrap();
    assert!(out.starts_with("before\n\u{feff}key,") && out.ends_with("\r\nafter\n"), "{out}");
}

#[test]
fn an_owner_that_cannot_be_preserved_is_an_error_before_anything_is_written() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    let shared = path.join("shared");
    fs::create_dir(&shared).unwrap();
    let file = shared.join("out.csv");
    fs::write(&file, "old").unwrap();
    let is_root = metadata(&file).1 == 0;
    let mut export = command(path);
    export.args(["export", "--admin", &program.url(), "--output"]).arg(&file);
    if is_root {
        // The other user can search and write to the folders; the file belongs to root.
        for folder in [path, &shared] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        // The program's own folder may be inaccessible to that user.
        let binary = path.join("holodule-backend");
        fs::copy(env!("CARGO_BIN_EXE_holodule-backend"), &binary).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let mut other = Command::new(&binary);
        other.args(export.get_args()).env_clear().current_dir(path).uid(OTHER.0).gid(OTHER.1);
        export = other;
        let refused = run(&mut export, "");
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(text(&refused.stderr).contains("out.csv: its owner, 0:0, cannot be preserved"), "{refused:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    } else {
        // Without root, this user owns the files; a read-only folder causes the same error.
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o555)).unwrap();
        let refused = run(&mut export, "");
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 1, "no draft is left");
}

/// The output of commands that print lists, with `output` as standard output.
fn lists(path: &Path, program: &Program, output: &dyn Fn() -> Stdio) -> Vec<Output> {
    let admin = program.url();
    let all: [&[&str]; 7] = [
        &["streamers", "list", "--admin", &admin],
        &["user", "list", "--admin", &admin],
        &["user", "role", "list", "user01", "--admin", &admin],
        &["export", "--admin", &admin],
        &["export", "--admin", &admin, "--output", "/dev/stdout"],
        &["check", "--show"],
        &["--help"],
    ];
    let run = |arguments: &&[&str]| command(path).args(*arguments).stdout(output()).output().unwrap();
    all.iter().map(run).collect()
}

#[test]
fn commands_end_quietly_if_the_reader_has_closed_the_pipe_but_not_if_the_disk_is_full() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    succeeds(&program.run(path, &["streamers", "import", STREAMERS], ""));
    succeeds(&program.run(path, &["user", "add", "user01"], "password01\n"));
    succeeds(&program.run(path, &["user", "role", "add", "user01", "viewer"], ""));
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for output in lists(path, &program, &closed) {
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""));
    }
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for output in lists(path, &program, &full) {
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("No space left on device"), "{output:?}");
    }
}
