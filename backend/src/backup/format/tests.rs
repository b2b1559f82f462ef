//! Tests of the file format.

use super::*;
use crate::model::{CalendarKey, Filter};

fn records() -> Vec<Saved> {
    let user = |password: &str, disabled, roles: &[&str]| {
        Saved::User(SavedUser {
            username: "ときの \"そら\"".to_owned(),
            id: None,
            password: StoredPassword::new(password),
            disabled,
            roles: Roles::parse(roles).unwrap(),
            created_at: Some(1),
            password_changed_at: None,
        })
    };
    let token = TokenId::parse("jti:a").unwrap();
    vec![
        Saved::Logout(Logout { identity: "user01".to_owned(), token, expires_at: 7 }),
        Saved::Holodule(Box::new(Holodule { title: Some("a\nb".to_owned()), ..Holodule::default() })),
        user("", true, &[]),
        user("pass\u{0}word", false, &["b", "a"]),
    ]
}

fn write(records: Vec<Saved>) -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new(), 1_800_000_000);
    for record in records {
        writer.record(record).unwrap();
    }
    writer.finish(true, 3).unwrap().0
}

fn written() -> Vec<u8> {
    write(records())
}

fn streamer() -> Saved {
    let streamer =
        Streamer { id: "1".into(), code: "HL0501".into(), name: Some("獅白".into()), ..Streamer::default() };
    Saved::Streamer(Box::new(streamer))
}

#[test]
fn a_calendar_feed_is_read_as_it_was_written() {
    let calendar = Calendar {
        id: "0f".into(),
        owner: "user01".into(),
        owner_id: Some("1".into()),
        key_hash: CalendarKey::random().unwrap().hash(),
        label: None,
        filter: Filter { tags: ["歌".to_owned()].into(), ..Filter::default() },
        created_at: 7,
    };
    let event = DeliveredEvent {
        digest: "d".into(),
        sequence: 1,
        modified: 2,
        starts_at: 3,
        summary: "夜".into(),
        cancelled_at: Some(4),
    };
    let events = [("a@video.holodule.invalid".to_owned(), event)].into();
    let delivered = Saved::Delivered("0f".into(), Box::new(Delivered { events }));
    let feeds = [Saved::Calendar(Box::new(calendar)), delivered.clone(), streamer()];
    let all: Vec<_> = feeds.into_iter().chain(records()).collect();
    let file = write(all.clone());
    assert!(file.starts_with(b"{\"holodule_backup\":3,"), "older programs reject it");
    let read: Vec<_> = BackupReader::new(file.as_slice()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, all);
    let end = verify(file.as_slice()).unwrap();
    assert_eq!((end.calendars, end.delivered, end.streamers), (1, 1, 1));
    let mut writer = BackupWriter::new(Vec::new(), 1);
    writer.record(streamer()).unwrap();
    assert_eq!(writer.record(delivered).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn feeds_and_delivered_events_that_could_not_be_restored_as_counted_are_rejected() {
    let feed = |id: &str| {
        Saved::Calendar(Box::new(Calendar {
            id: id.into(),
            owner: "user01".into(),
            owner_id: None,
            key_hash: CalendarKey::random().unwrap().hash(),
            label: None,
            filter: Filter::default(),
            created_at: 7,
        }))
    };
    let delivered = |id: &str, uid: &str, sequence| {
        let (digest, summary) = ("d".to_owned(), "s".to_owned());
        let event = DeliveredEvent { digest, sequence, modified: 2, starts_at: 3, summary, cancelled_at: None };
        Saved::Delivered(id.into(), Box::new(Delivered { events: [(uid.to_owned(), event)].into() }))
    };
    let of = |records: Vec<Saved>| verify(write(records).as_slice()).map(|_| ()).map_err(|error| error.to_string());
    let good = || delivered("0f", "a@video.holodule.invalid", 1);
    assert_eq!(of(vec![feed("0f"), feed("0e"), good()]), Ok(()));
    let repeated = "line 3 has a calendar feed with the id of an earlier one";
    assert_eq!(of(vec![feed("0f"), feed("0f")]), Err(repeated.to_owned()));
    let of_none = |line| {
        Err(format!("line {line} has delivered events of an unknown calendar feed, or of one that already has some"))
    };
    assert_eq!(of(vec![good(), feed("0f")]), of_none(2));
    assert_eq!(of(vec![feed("0e"), good()]), of_none(3));
    assert_eq!(of(vec![feed("0f"), good(), good()]), of_none(4));
    for (uid, sequence) in [("a\r\nX:1", 1), ("", 1), ("a", -1), ("a", 1 << 31)] {
        let invalid = "line 3 has delivered events with an invalid UID or sequence";
        assert_eq!(of(vec![feed("0f"), delivered("0f", uid, sequence)]), Err(invalid.to_owned()), "{uid:?} {sequence}");
    }
}

/// Written by the program when that version was the latest.
#[test]
fn a_backup_of_version_2_with_a_feed_is_read() {
    let file = concat!(
        "{\"holodule_backup\":2,\"created_at\":1}\n",
        "{\"streamer\":{\"id\":\"1\",\"code\":\"HL0501\",\"name\":null,\"group\":null,\"affiliations\":[],",
        "\"image_name\":null,\"channel_id\":null,\"is_retired\":null}}\n",
        "{\"calendar\":{\"id\":\"0f\",\"owner\":\"user01\",\"key_hash\":",
        "\"60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55\",\"filter\":{},\"created_at\":7}}\n",
    );
    let sum = hex::encode(aws_lc_rs::digest::digest(&SHA256, file.as_bytes()).as_ref());
    let end = format!(
        "{{\"end\":{{\"users\":0,\"holodules\":0,\"logouts\":0,\"streamers\":1,\"calendars\":1,\"consistent\":true,\"unreadable\":0,\"sha256\":\"{sum}\"}}}}\n"
    );
    let file = [file, &end].concat();
    let read: Vec<_> = BackupReader::new(file.as_bytes()).unwrap().map(Result::unwrap).collect();
    assert!(matches!(read.as_slice(), [Saved::Streamer(_), Saved::Calendar(_)]), "{read:?}");
    assert_eq!(verify(file.as_bytes()).unwrap().delivered, 0);
}

#[test]
fn streamers_make_it_version_2_which_older_programs_reject() {
    let all: Vec<_> = std::iter::once(streamer()).chain(records()).collect();
    let file = write(all.clone());
    assert!(file.starts_with(b"{\"holodule_backup\":2,\"created_at\":1800000000}\n"));
    let read: Vec<_> = BackupReader::new(file.as_slice()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, all);
    assert_eq!(verify(file.as_slice()).unwrap().streamers, 1);
    let mut writer = BackupWriter::new(Vec::new(), 1);
    writer.record(records().remove(0)).unwrap();
    assert_eq!(writer.record(streamer()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn without_streamers_a_backup_is_as_older_programs_write_it() {
    let file = String::from_utf8(write(Vec::new())).unwrap();
    let sum = hex::encode(
        aws_lc_rs::digest::digest(&SHA256, b"{\"holodule_backup\":1,\"created_at\":1800000000}\n").as_ref(),
    );
    let end = format!(
        "{{\"end\":{{\"users\":0,\"holodules\":0,\"logouts\":0,\"consistent\":true,\"unreadable\":3,\"sha256\":\"{sum}\"}}}}\n"
    );
    assert_eq!(file, format!("{{\"holodule_backup\":1,\"created_at\":1800000000}}\n{end}"));
}

#[test]
fn a_written_backup_is_read() {
    let file = written();
    let read: Vec<_> = BackupReader::new(file.as_slice()).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, records());
    let end = verify(file.as_slice()).unwrap();
    assert_eq!((end.users, end.holodules, end.logouts, end.consistent, end.unreadable), (2, 1, 1, true, 3));
    assert!(file.starts_with(b"{\"holodule_backup\":1,\"created_at\":1800000000}\n"));
}

#[test]
fn a_user_of_an_older_backup_has_no_roles_and_invalid_ones_are_rejected() {
    let line =
        |roles: &str| format!("{{\"user\":{{\"username\":\"a\",\"password\":\"p\",\"disabled\":false{roles}}}}}\n");
    let read = |roles: &str| {
        let header = "{\"holodule_backup\":1,\"created_at\":1}\n";
        let file = [header, &line(roles)].concat();
        match BackupReader::new(file.as_bytes()).unwrap().next().unwrap() {
            Ok(Saved::User(user)) => Some(user.roles.iter().collect::<Vec<_>>().join(" ")),
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                assert_eq!(error.to_string(), "line 2 cannot be read");
                None
            }
        }
    };
    assert_eq!(read("").as_deref(), Some(""));
    assert_eq!(read(",\"roles\":[\"b\",\"a\"]").as_deref(), Some("a b"));
    for invalid in ["null", "\"a\"", "[1]", "[\"a b\"]"] {
        assert_eq!(read(&format!(",\"roles\":{invalid}")), None, "{invalid}");
    }
    let file = String::from_utf8(written()).unwrap();
    assert_eq!(file.matches("roles").count(), 1, "no roles are not written: {file}");
}

#[test]
fn a_truncated_file_is_rejected() {
    let file = written();
    for length in 0..file.len() {
        assert!(verify(&file[..length]).is_err(), "{length} of {}", file.len());
    }
    let lines = file.split_inclusive(|byte| *byte == b'\n').count();
    for left_out in 0..lines {
        let lines = file.split_inclusive(|byte| *byte == b'\n').enumerate();
        let file: Vec<u8> = lines.filter(|(at, _)| *at != left_out).flat_map(|(_, line)| line.to_vec()).collect();
        assert!(verify(file.as_slice()).is_err(), "without line {left_out}");
    }
}

#[test]
fn a_changed_byte_is_detected_and_errors_show_nothing_of_the_file() {
    let file = written();
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        // The last line is not part of the checksum; its counts are compared instead.
        if let Ok(end) = verify(damaged.as_slice()) {
            assert_ne!(end, verify(file.as_slice()).unwrap(), "byte {at}");
            assert_eq!((end.users, end.holodules, end.logouts), (2, 1, 1), "byte {at}");
        }
    }
    assert!(matches!(verify([file.as_slice(), b"x"].concat().as_slice()), Err(Damaged::Checksum)));
    let later = b"{\"holodule_backup\":4,\"created_at\":1}\n";
    assert!(matches!(verify(later.as_slice()), Err(Damaged::Version(4))));
    assert!(matches!(verify(b"key,video_id\n".as_slice()), Err(Damaged::NoBackup)));
    let shown = verify(b"{\"holodule_backup\":1,\"created_at\":1}\n{\"user\":\"hush\"}\n".as_slice()).unwrap_err();
    assert_eq!(shown.to_string(), "line 2 cannot be read");
}
