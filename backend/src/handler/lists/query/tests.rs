use serde_json::json;

use super::*;
use crate::model::{Holodule, Position, Streamer};

/// 2020-12-09 23:00:00 in Japan.
const NOW: Moment = Moment { now: 1_607_522_400, assumed_duration: 7200 };

fn streamers() -> Streamers {
    let streamer =
        |code: &str, group: &str| Streamer { code: code.into(), group: Some(group.into()), ..Streamer::default() };
    [streamer("HL0001", "a"), streamer("HL0002", "a"), streamer("HLEN01", "b")].into_iter().collect()
}

fn resolve(query: &str) -> Result<Resolved, HttpError> {
    ListQuery::parse(Some(query))?.resolve(NOW, &streamers())
}

fn ranges(query: &str) -> Vec<(String, String)> {
    let resolved = resolve(query).unwrap();
    resolved.selection.ranges.into_iter().map(|range| (range.start, range.end)).collect()
}

fn days(query: &str) -> (String, String) {
    let found = ranges(query);
    assert_eq!(found.len(), 1);
    (found[0].0.trim_end_matches(' ').to_owned(), found[0].1.trim_end_matches('!').to_owned())
}

fn refused(query: &str) -> serde_json::Value {
    let error = resolve(query).unwrap_err();
    let response = error.into_response(crate::respond::Shape::Problem);
    let body = futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(response.into_body()));
    serde_json::from_slice(&body.unwrap().unwrap().to_bytes()).unwrap()
}

fn contains(query: &str, holodule: serde_json::Value) -> bool {
    let holodule: Holodule = serde_json::from_value(holodule).unwrap();
    resolve(query).unwrap().selection.contains(&holodule)
}

fn pair(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

#[test]
fn days_are_inclusive_in_both_forms_with_defaults() {
    assert_eq!(days("from=20201201&to=20201203"), pair("20201201", "20201203"));
    assert_eq!(days("from=2020-12-01&to=20201201"), pair("20201201", "20201201"));
    assert_eq!(days(""), pair("20201209", "20201215"));
    assert_eq!(days("from=20201230"), pair("20201230", "20210105"));
    assert_eq!(days("to=20210105"), pair("20201230", "20210105"));
    assert_eq!(days("from=99991230"), pair("99991230", "99991231"));
    assert_eq!(days("to=00000103"), pair("00000101", "00000103"));
    for inside in ["20201201 000000", "20201203 235959"] {
        assert!(contains("from=20201201&to=20201203", json!({ "datetime": inside })));
    }
    for outside in ["20201130 235959", "20201204 000000"] {
        assert!(!contains("from=20201201&to=20201203", json!({ "datetime": outside })));
    }
}

#[test]
fn the_day_of_the_default_is_that_of_japan() {
    let at = |now| {
        let query = ListQuery::parse(None).unwrap();
        query.resolve(Moment { now, ..NOW }, &streamers()).unwrap().selection.ranges[0].start.clone()
    };
    assert_eq!(at(NOW.now + 3599), "20201209 ");
    assert_eq!(at(NOW.now + 3600), "20201210 ");
}

#[test]
fn a_list_has_at_most_366_days_and_a_search_92() {
    assert_eq!(days("from=20200101&to=20201231"), pair("20200101", "20201231"));
    assert_eq!(refused("from=20200101&to=20210101")["detail"], "from and to are 367 days, over 366");
    assert_eq!(refused("from=20201202&to=20201201")["parameter"], "to");
    assert_eq!(days("q=x&from=20201001&to=20201231"), pair("20201001", "20201231"));
    let over = refused("q=x&from=20201001&to=20210101");
    assert_eq!(
        (&over["parameter"], &over["detail"]),
        (&json!("q"), &json!("q needs from and to of at most 92 days, not 93"))
    );
    for query in ["from=2020-12-32", "from=", "to=20201301", "from=2020-1201", "to=tomorrow"] {
        assert_eq!(refused(query)["status"], 400, "{query}");
    }
}

#[test]
fn a_repeated_name_is_or_and_different_names_are_and() {
    let holodule =
        || json!({ "datetime": "20201209 230000", "code": "HL0002", "name": "夢", "tags": ["x"], "title": "ＡＢＣ" });
    for query in [
        "code=HL0001&code=HL0002",
        "group=a",
        "group=b&group=a&tag=x&name=%E5%A4%A2",
        "code=HL0002&group=a&q=abc",
        "tag=y&tag=x",
        "name=+&name=夢",
    ] {
        assert!(contains(query, holodule()), "{query}");
    }
    for query in
        ["code=HL0001", "group=b", "code=HL0002&group=b", "tag=y", "tag=X", "name=夢%20", "q=abcd", "tag=x&name=x"]
    {
        assert!(!contains(query, holodule()), "{query}");
    }
}

#[test]
fn unknown_names_and_values_are_refused_with_the_known_ones() {
    for (query, parameter, known) in [
        ("code=HL0003", "code", json!(["HL0001", "HL0002", "HLEN01"])),
        ("code=", "code", json!(["HL0001", "HL0002", "HLEN01"])),
        ("group=c&group=a", "group", json!(["a", "b"])),
        ("status=now", "status", json!(["upcoming", "live", "past"])),
        ("sort=name", "sort", json!(["starts_at", "-starts_at"])),
        (
            "channel=1",
            "channel",
            json!(["from", "to", "code", "name", "group", "tag", "q", "status", "sort", "limit", "cursor"]),
        ),
    ] {
        let problem = refused(query);
        assert_eq!(
            (&problem["status"], &problem["parameter"], &problem["known"]),
            (&json!(400), &json!(parameter), &known)
        );
    }
}

#[test]
fn without_streamers_a_code_is_checked_by_its_form() {
    let resolve = |query| ListQuery::parse(Some(query)).unwrap().resolve(NOW, &Streamers::default());
    assert!(resolve("code=HL0503").is_ok());
    assert_eq!(resolve("code=x"), Err(unknown("code", "x", Vec::new())));
    assert_eq!(resolve("group=a"), Err(unknown("group", "a", Vec::new())));
}

#[test]
fn a_limit_is_1_to_1000() {
    let limit = |query| resolve(query).map(|resolved| resolved.page.limit);
    assert_eq!((limit(""), limit("limit=1"), limit("limit=1000")), (Ok(100), Ok(1), Ok(1000)));
    for query in
        ["limit=0", "limit=1001", "limit=-1", "limit=%2B1", "limit=1.0", "limit=", "limit=99999999999999999999"]
    {
        assert_eq!(refused(query)["parameter"], "limit", "{query}");
    }
    for query in ["limit=1&limit=1", "from=20201201&from=20201201", "q=a&q=b", "sort=starts_at&sort=starts_at"] {
        assert!(refused(query)["detail"].as_str().unwrap().ends_with("must not be repeated"), "{query}");
    }
}

#[test]
fn a_status_narrows_the_days() {
    let text = |text: &str| text.to_owned();
    assert_eq!(ranges("from=20201208&to=20201210&status=live"), [(text("20201209 210001"), text("20201209 230001"))]);
    let others = ranges("from=20201208&to=20201210&status=past&status=upcoming");
    assert_eq!(others, [(text("20201208 "), text("20201209 210001")), (text("20201209 230001"), text("20201210!"))]);
    assert_eq!(ranges("from=20201201&to=20201202&status=upcoming"), []);
    let depends_on_clock = |query| resolve(query).unwrap().depends_on_clock;
    assert!(depends_on_clock("") && depends_on_clock("code=HL0001") && depends_on_clock("from=20201201&status=past"));
    assert!(!depends_on_clock("from=20201201") && !depends_on_clock("to=20201201"));
}

#[test]
fn a_search_is_literal_and_bounded() {
    let title = |title: &str| json!({ "datetime": "20201209 230000", "title": title });
    assert!(contains("q=.%2A", title("a.*b")) && !contains("q=.%2A", title("ab")));
    assert!(contains("q=%EF%BC%A1", title("xa")), "a full-width A");
    for query in ["q=", "q=+", "q=%00", &format!("q={}", "a".repeat(101))] {
        assert_eq!(refused(query)["parameter"], "q", "{query}");
    }
}

#[test]
fn a_cursor_belongs_to_its_query() {
    let position = Position { datetime: "20201209 230000".into(), key: "k".into(), id: vec![1] };
    let cursor = cursor::encode(&resolve("code=HL0001&sort=-starts_at").unwrap().digest, &position);
    for same in [
        "code=HL0001&sort=-starts_at",
        "sort=-starts_at&limit=7&code=HL0001",
        "code=HL0001&sort=-starts_at&code=HL0001",
    ] {
        assert_eq!(resolve(&format!("{same}&cursor={cursor}")).unwrap().page.after, Some(position.clone()), "{same}");
    }
    for other in [
        "code=HL0001",
        "sort=-starts_at",
        "code=HL0001&sort=-starts_at&tag=x",
        "name=HL0001&sort=-starts_at",
        "code=HL0001&sort=-starts_at&from=20201209",
    ] {
        let problem = refused(&format!("{other}&cursor={cursor}"));
        assert_eq!((&problem["parameter"], &problem["status"]), (&json!("cursor"), &json!(400)), "{other}");
    }
    assert_eq!(refused("cursor=x")["detail"], "cursor is not a value of next in a response");
}

#[test]
fn a_streamer_has_no_filter_of_streamers() {
    let query = ListQuery::parse_of_streamer(Some("tag=x"), "HL0001").unwrap();
    assert_eq!(query.resolve(NOW, &streamers()).unwrap().selection.codes, Some(["HL0001".to_owned()].into()));
    for name in OF_STREAMERS {
        assert!(ListQuery::parse_of_streamer(Some(&format!("{name}=a")), "HL0001").is_err());
    }
}
