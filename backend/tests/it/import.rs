//! `import` with files from spreadsheets, pipes and other programs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::program::{Program, SAMPLE, folder, run, succeeds, text};

const HEADER: &str = "key,video_id,datetime,name,title,url,description";
const EVERY: &str = "587 read, 0 inserted, 0 updated, 587 unchanged, 0 rejected\n";

fn sample() -> String {
    fs::read_to_string(SAMPLE).unwrap()
}

/// A program with the sample loaded.
fn loaded(path: &Path) -> Program {
    let program = Program::start(path, &[]);
    fs::copy(SAMPLE, path.join("sample.csv")).unwrap();
    succeeds(&program.run(path, &["import", "sample.csv"], ""));
    program
}

fn import(program: &Program, path: &Path, content: &[u8], name: &str, options: &[&str]) -> Output {
    fs::write(path.join(name), content).unwrap();
    program.run(path, &[&["import", name], options].concat(), "")
}

fn fails(output: &Output, part: &str) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(message.contains(part), "{message}");
}

/// The sample with another separator, converted by a library.
fn separated(separator: u8, end: csv::Terminator) -> Vec<u8> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(SAMPLE).unwrap();
    let mut writer = csv::WriterBuilder::new().delimiter(separator).terminator(end).from_writer(Vec::new());
    for record in reader.records() {
        writer.write_record(&record.unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn spreadsheet_dialects_are_detected_and_reported() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    let utf16 = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let comma = csv::Terminator::CRLF;
    let plain = sample();
    for (content, reported) in [
        (utf16(&plain, false), "encoded as UTF-16LE\n"),
        (utf16(&plain, true), "encoded as UTF-16BE\n"),
        (separated(b';', comma), "separated by semicolons\n"),
        (separated(b'\t', csv::Terminator::Any(b'\n')), "separated by tabs\n"),
        (separated(b',', csv::Terminator::Any(b'\r')), "lines end with a carriage return\n"),
        (
            utf16(
                &format!(
                    "\u{feff}{}",
                    String::from_utf8(separated(b'\t', comma)).unwrap().trim_start_matches('\u{feff}')
                ),
                false,
            ),
            "encoded as UTF-16LE, separated by tabs\n",
        ),
    ] {
        let expected = format!("saved.csv: {reported}saved.csv: {EVERY}");
        assert_eq!(succeeds(&import(&program, path, &content, "saved.csv", &[])), expected);
    }

    // cp932 lacks some characters of the sample.
    let rows = format!("{HEADER}\r\n,ccccccccccc,2027/1/1 20:00,尾丸ポルカ,①～－,,\r\n");
    let (cp932, _, lost) = encoding_rs::SHIFT_JIS.encode(&rows);
    assert!(!lost);
    let output = succeeds(&import(&program, path, &cp932, "excel.csv", &[]));
    assert_eq!(
        output,
        "excel.csv: encoded as cp932\nexcel.csv: 1 read, 1 inserted, 0 updated, 0 unchanged, 0 rejected\n"
    );
    let again = succeeds(&import(&program, path, rows.as_bytes(), "excel.csv", &["--encoding", "utf-8"]));
    assert!(again.contains("1 unchanged"), "{again}");
    fails(&import(&program, path, rows.as_bytes(), "excel.csv", &["--encoding", "utf-16be"]), "is not valid UTF-16BE");
    let iso = format!("{HEADER}\n,ccccccccccc,2027-01-01T11:00:00Z,尾丸ポルカ,①～－,,\n");
    assert!(succeeds(&import(&program, path, iso.as_bytes(), "iso.csv", &[])).contains("1 unchanged"));
}

#[test]
fn unknown_columns_are_errors_and_can_be_ignored() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let rows = format!("{HEADER},views,likes\n,ccccccccccc,2027/1/1 20:00,n,t,,,7,8\n,ddddddddddd,soon,n,t,,,9,\n");
    let refused = import(&program, path, rows.as_bytes(), "wide.csv", &[]);
    fails(
        &refused,
        "unknown columns \"views\", \"likes\"; the known ones are key, video_id, datetime, name, title, url,",
    );
    fails(&refused, "--ignore-unknown");
    let read = import(&program, path, rows.as_bytes(), "wide.csv", &["--ignore-unknown"]);
    assert_eq!(read.status.code(), Some(2));
    assert!(text(&read.stdout).starts_with("wide.csv: 2 read, 1 inserted, 0 updated, 0 unchanged, 1 rejected\n"));
    let rejects = fs::read_to_string(path.join("wide.csv.rejects.csv")).unwrap();
    assert!(rejects.contains("\r\n,ddddddddddd,soon,n,t,,,9,,2,datetime: "), "{rejects}");
}

#[test]
fn rejects_lose_nothing_and_are_imported_again_once_corrected() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let mut file = format!("{HEADER}\n,ccccccccccc,soon,尾丸,\"a,\nb\",,\n").into_bytes();
    file.extend(b"\xE5\xB0\xBE,\xE5\xB0,\xFF\n");
    let read = import(&program, path, &file, "odd.csv", &[]);
    assert_eq!(read.status.code(), Some(2), "{read:?}");
    let rejects = fs::read(path.join("odd.csv.rejects.csv")).unwrap();
    let contains = |part: &[u8]| rejects.windows(part.len()).any(|window| window == part);
    assert!(contains(b"\"\xE5\xB0\xBE,\xE5\xB0,\xFF\",,"), "{rejects:?}");
    let at = rejects.windows(4).position(|window| window == b"soon").unwrap();
    let corrected = [&rejects[..at], b"2027/1/1 20:00", &rejects[at + 4..]].concat();
    let again = import(&program, path, &corrected, "odd.csv.rejects.csv", &[]);
    assert!(text(&again.stdout).contains("2 read, 1 inserted, 0 updated, 0 unchanged, 1 rejected\n"), "{again:?}");
    let exported = succeeds(&program.run(path, &["export", "--format", "ndjson"], ""));
    assert!(exported.contains(r#""name":"尾丸","title":"a,\nb""#), "{exported}");
}

#[test]
fn other_formats_are_named() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let row = r#"{"video_id":"ccccccccccc","datetime":"20270101 200000"}"#;
    for (content, name, part) in [
        (&b"PK\x03\x04\x14\0\x06\0"[..], "book.xlsx", "book.xlsx: is a ZIP archive, such as an .xlsx workbook"),
        (b"PK\x03\x04\x14\0\x06\0", "book.csv", "book.csv: is a ZIP archive"),
        (b"\x1F\x8B\x08\0", "a.csv", "compressed with gzip"),
        (b"%PDF-1.7\n", "a.csv", "a PDF document"),
        (b"<!DOCTYPE html><html>", "a.csv", "an HTML page"),
        (format!("{row}\n{row}\n").as_bytes(), "a.csv", "looks like NDJSON: use --format ndjson"),
        (format!("[{row}]").as_bytes(), "a.csv", "looks like JSON: use --format json"),
        (format!("[{row}]").as_bytes(), "a.ndjson", "looks like JSON: use --format json"),
        (format!("{row}\n{row}\n").as_bytes(), "a.json", "looks like NDJSON: use --format ndjson"),
        (format!("[{row}] GARBAGE [{row}]").as_bytes(), "a.json", "must end after its JSON array"),
        (b"plain", "a.txt", "the format is not clear from the file name"),
    ] {
        let refused = import(&program, path, content, name, &[]);
        fails(&refused, part);
        assert!(!refused.stderr.iter().any(|byte| *byte < b'\n'), "no bytes of the file are printed: {refused:?}");
    }
    let named = import(&program, path, format!("{row}\n").as_bytes(), "a.csv", &["--format", "ndjson"]);
    assert!(succeeds(&named).contains("1 inserted"));
}

#[test]
fn pipes_are_read_and_their_rejects_go_to_standard_error_or_a_named_file() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    let shell = |script: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_holodule-backend"), &program.url()]).current_dir(path);
        run(&mut shell, "")
    };
    for script in [
        r#""$0" import --admin "$1" <(cat sample.csv)"#,
        r#""$0" import --admin "$1" <("$0" export --admin "$1")"#,
        r#""$0" import --admin "$1" <("$0" export --admin "$1" --format json)"#,
        r#"mkfifo fifo; cat sample.csv >fifo & "$0" import --admin "$1" fifo"#,
        r#"cat sample.csv | "$0" import --admin "$1" /dev/stdin"#,
        r#"cat sample.csv | "$0" import --admin "$1" --format csv -"#,
    ] {
        let read = succeeds(&shell(script));
        assert!(read.ends_with(EVERY), "{script}: {read}");
    }
    fs::write(path.join("bad.csv"), format!("{HEADER}\n,ccccccccccc,soon,n,t,,\n")).unwrap();
    let expected = format!(
        "\u{feff}{HEADER},row,reason\r\n,ccccccccccc,soon,n,t,,,1,datetime: must be a day of the calendar and a time of the day\r\n"
    );
    for script in [r#""$0" import --admin "$1" <(cat bad.csv)"#, r#""$0" import --admin "$1" --format csv - <bad.csv"#]
    {
        let read = shell(script);
        assert_eq!((read.status.code(), text(&read.stderr)), (Some(2), expected.clone()), "{script}");
    }
    for script in [
        r#""$0" import --admin "$1" --rejects r.csv <(cat bad.csv)"#,
        r#""$0" import --admin "$1" --rejects r.csv bad.csv"#,
        r#""$0" import --admin "$1" --rejects >(cat >r.new; mv r.new r.csv) bad.csv; until [ -e r.csv ]; do sleep 0.01; done; exit 2"#,
    ] {
        let read = shell(script);
        assert_eq!((read.status.code(), text(&read.stderr)), (Some(2), String::new()), "{script}");
        assert_eq!(fs::read_to_string(path.join("r.csv")).unwrap(), expected, "{script}");
        fs::remove_file(path.join("r.csv")).unwrap();
    }
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains("rejects"));
    assert_eq!(names, Vec::<String>::new());
    fails(
        &program.run(path, &["import", "bad.csv", "--rejects", "./bad.csv"], ""),
        "--rejects is the imported file itself",
    );
    fails(&program.run(path, &["import", "bad.csv", "bad.csv", "--rejects", "r.csv"], ""), "one file only");
}

#[test]
fn rejects_follow_links_and_links_pipes_and_devices_remain() {
    let folder = folder();
    let path = folder.path();
    let program = loaded(path);
    let (good, bad) = (sample(), format!("{HEADER}\n,ccccccccccc,soon,n,t,,\n"));
    assert!(Command::new("mkfifo").arg(path.join("fifo")).status().unwrap().success());
    let inode = |name: &str| fs::symlink_metadata(path.join(name)).unwrap().ino();
    // If no row is rejected, the file of the rejects is removed, unless it is not a regular file. The device is reached
    // through two links, so that a bug cannot damage the system's device.
    for (number, target) in ["fifo", "null"].into_iter().enumerate() {
        let name = format!("good{number}.csv");
        let link = format!("{name}.rejects.csv");
        if target == "null" {
            symlink("/proc/self/fd/2", path.join(target)).unwrap();
        }
        symlink(target, path.join(&link)).unwrap();
        let before = [inode(target), inode(&link)];
        assert!(succeeds(&import(&program, path, good.as_bytes(), &name, &[])).ends_with(EVERY));
        assert_eq!([inode(target), inode(&link)], before, "{target}");
    }
    fs::rename(path.join("fifo"), path.join("bad.csv.rejects.csv")).unwrap();
    let reader = std::thread::spawn({
        let fifo = path.join("bad.csv.rejects.csv");
        move || fs::read_to_string(fifo).unwrap()
    });
    assert_eq!(import(&program, path, bad.as_bytes(), "bad.csv", &[]).status.code(), Some(2));
    assert!(reader.join().unwrap().contains(",soon,"));
    // The file itself is neither removed nor replaced by its rejects.
    for (name, content) in [("a.csv", &good), ("b.csv", &bad)] {
        symlink(name, path.join(format!("{name}.rejects.csv"))).unwrap();
        fails(&import(&program, path, content.as_bytes(), name, &[]), "is a link to the imported file");
        assert_eq!(fs::read_to_string(path.join(name)).unwrap(), *content);
    }
}

#[test]
fn an_escaped_export_has_no_formulas_and_is_imported_unchanged() {
    let folder = folder();
    let path = folder.path();
    let program = Program::start(path, &[]);
    let cells = ["=1+1", "+81", "-1", "@a", "'a", "\ta", "\ra", "a=1"];
    let mut rows = format!("\u{feff}{HEADER}\r\n");
    for (at, cell) in cells.iter().enumerate() {
        let quoted = if cell.contains('\r') { format!("\"{cell}\"") } else { (*cell).to_owned() };
        rows.push_str(&format!(",-aaaaaaaaa{at},2027-01-01 20:00:0{at},n,{quoted},,{quoted}\r\n"));
    }
    succeeds(&import(&program, path, rows.as_bytes(), "a.csv", &[]));
    let plain = |program: &Program| program.run(path, &["export", "--format", "csv"], "").stdout;
    assert_eq!(text(&plain(&program)), rows, "without the option cells stay as they are");
    succeeds(&program.run(path, &["export", "--format", "csv", "--spreadsheet", "--output", "guarded.csv"], ""));
    let guarded = fs::read_to_string(path.join("guarded.csv")).unwrap();
    for record in csv::Reader::from_reader(guarded.as_bytes()).records() {
        let record = record.unwrap();
        assert!(!record.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{record:?}");
    }
    assert!(guarded.contains(",'=1+1,,'=1+1,\r\n") && guarded.contains(",''a,"), "{guarded}");
    fails(&program.run(path, &["export", "--spreadsheet"], ""), "--spreadsheet is for --format csv");

    let folder = crate::program::folder();
    let other = Program::start(folder.path(), &[]);
    succeeds(&other.run(path, &["import", "guarded.csv"], ""));
    assert_eq!(text(&plain(&other)), rows);
    // As saved again by a spreadsheet.
    let saved = guarded.replace(',', ";");
    let again = import(&other, path, saved.as_bytes(), "saved.csv", &[]);
    assert!(succeeds(&again).ends_with("8 read, 0 inserted, 0 updated, 8 unchanged, 0 rejected\n"));
}
