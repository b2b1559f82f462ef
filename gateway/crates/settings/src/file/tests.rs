use std::fs::Permissions;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use super::access::PERMISSIONS;
use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & PERMISSIONS
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = Replacement::begin(path)?;
    file.write_all(content)?;
    file.commit()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_atomically_and_leaves_no_draft() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("addresses.json");
    for content in ["first, and longer than the second", "second"] {
        replace(&path, content.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    assert!(replace(&folder.path().join("missing/addresses.json"), b"").is_err());
    let occupied = folder.path().join("occupied");
    fs::create_dir(&occupied).unwrap();
    assert!(replace(&occupied, b"").is_err());
    let mut given_up = Replacement::begin(&path).unwrap();
    given_up.write_all(b"half").unwrap();
    drop(given_up);
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(names(folder.path()), ["addresses.json", "occupied"]);
}

#[test]
fn drafts_of_killed_programs_with_the_same_process_id_do_not_block_a_folder() {
    const TEST: &str = "file::tests::drafts_of_killed_programs_with_the_same_process_id_do_not_block_a_folder";
    const FOLDER: &str = "HOLODULE_TEST_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        assert_eq!(std::process::id(), 1);
        // As if it was killed before the commit.
        std::mem::forget(Replacement::begin(&Path::new(&folder).join("f")).unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let count = DRAFT_NAMES + 1;
    for number in 0..count {
        // Each is process 1 of its own namespace, which needs no privileges.
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user", "--pid", "--fork"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", TEST])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{number}: {output:?}");
    }
    assert_eq!(names(folder.path()).len(), count, "each has left its draft");
}

#[test]
fn a_reader_of_the_old_file_is_not_affected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    write(&path, b"old").unwrap();
    let mut open = File::open(&path).unwrap();
    write(&path, b"new").unwrap();
    let mut read = String::new();
    open.read_to_string(&mut read).unwrap();
    assert_eq!((read.as_str(), fs::read_to_string(&path).unwrap().as_str()), ("old", "new"));
}

#[test]
fn a_new_file_is_private_and_an_old_one_keeps_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.csv");
    write(&path, b"a").unwrap();
    assert_eq!(mode(&path), 0o600);
    for kept in [0o600, 0o640, 0o644, 0o444, 0o666, 0o4711] {
        fs::set_permissions(&path, Permissions::from_mode(kept)).unwrap();
        write(&path, b"b").unwrap();
        assert_eq!(mode(&path), kept);
        replace(&path, b"c").unwrap();
        assert_eq!(mode(&path), kept);
    }
    let public = folder.path().join("announce.json");
    replace(&public, b"a").unwrap();
    let plain = folder.path().join("plain");
    File::create(&plain).unwrap();
    assert_eq!(mode(&public), mode(&plain) & PUBLIC, "as the umask allows");
}

#[test]
fn links_are_followed_and_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    fs::write(at("sub/target"), "old").unwrap();
    fs::set_permissions(at("sub/target"), Permissions::from_mode(0o640)).unwrap();
    symlink("sub/target", at("relative")).unwrap();
    symlink(at("relative"), at("absolute")).unwrap();
    write(&at("absolute"), b"new").unwrap();
    assert_eq!(fs::read_to_string(at("sub/target")).unwrap(), "new");
    assert_eq!(mode(&at("sub/target")), 0o640);
    assert!(["relative", "absolute"].iter().all(|name| fs::symlink_metadata(at(name)).unwrap().is_symlink()));
    symlink("sub/new", at("dangling")).unwrap();
    write(&at("dangling"), b"new").unwrap();
    assert_eq!(fs::read_to_string(at("sub/new")).unwrap(), "new");
    symlink("loop", at("loop")).unwrap();
    assert!(write(&at("loop"), b"").is_err());
    assert_eq!(names(&at("sub")), ["new", "target"], "no draft is left");
}

#[test]
fn files_that_cannot_be_replaced_are_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let link = folder.path().join("link");
    symlink("fifo", &link).unwrap();
    for path in [&fifo, &link] {
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        write(path, b"piped").unwrap();
        assert_eq!(reader.join().unwrap(), b"piped");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    }
    // Through a link, so that a bug cannot damage the machine's device.
    let null = folder.path().join("null");
    symlink("/dev/null", &null).unwrap();
    write(&null, b"nothing").unwrap();
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
    assert_eq!(names(folder.path()), ["fifo", "link", "null"]);
}

#[test]
fn an_open_file_is_appended_to() {
    use std::os::fd::AsRawFd as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("open");
    let mut open = OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    open.write_all(b"before ").unwrap();
    for name in [format!("/proc/self/fd/{}", open.as_raw_fd()), format!("/dev/fd/{}", open.as_raw_fd())] {
        write(Path::new(&name), b"within ").unwrap();
    }
    open.write_all(b"after").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before within within after");
}

#[test]
fn only_regular_and_new_files_are_replaceable() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    for (link, target) in [
        ("to-file", "file"),
        ("to-fifo", "fifo"),
        ("to-new", "new"),
        ("to-null", "/dev/null"),
        ("to-out", "/dev/stdout"),
    ] {
        symlink(target, at(link)).unwrap();
    }
    for (name, expected) in [
        ("file", true),
        ("new", true),
        ("to-file", true),
        ("to-new", true),
        ("fifo", false),
        ("to-fifo", false),
        ("to-null", false),
        // An open file of the process, whatever its kind.
        ("to-out", false),
    ] {
        assert_eq!(is_replaceable(&at(name)).unwrap(), expected, "{name}");
    }
    assert_eq!(resolved(&at("to-new")).unwrap(), at("new"));
    symlink("loop", at("loop")).unwrap();
    assert!(is_replaceable(&at("loop")).is_err() && resolved(&at("loop")).is_err());
}

#[test]
fn a_file_in_a_folder_without_read_permission_is_replaced_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    // Root can read it anyway.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o300)).unwrap();
    let written = write(&path, b"new");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    written.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}
