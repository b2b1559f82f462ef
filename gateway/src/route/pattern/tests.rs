use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap()
}

fn matches(text: &str, path: &str) -> bool {
    pattern(text).matches(&CanonicalPath::parse(path).unwrap())
}

#[test]
fn patterns_that_match_no_path_are_refused() {
    for text in ["", "a", "/a//b", "/a/../b", "/{}", "/{a}/{a}", "/{a b}", "/a{b}", "/a;b", "/é"] {
        assert!(Pattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_name_matches_one_segment_that_is_not_empty() {
    let pattern = pattern("/a/{b}/c");
    let matches = |path| pattern.matches(&CanonicalPath::parse(path).unwrap());
    assert!(matches("/a/x/c") && matches("/a/%E3%83%9B/c"));
    assert!(!matches("/a/c") && !matches("/a/x/y/c") && !matches("/a/x/c/") && !matches("/A/x/c"));
    assert!(!matches("/a/x/cc") && !matches("/aa/x/c") && !matches("/a/x/") && !matches("/a") && !matches("/"));
}

#[test]
fn a_name_with_a_suffix_binds_what_is_before_it() {
    for (path, is_match) in [
        ("/a/x.ics", true),
        ("/a/x.ics.ics", true),
        ("/a/%E3%83%9B.ics", true),
        ("/a/.ics", false),
        ("/a/x.icS", false),
        ("/a/x.ics/", false),
        ("/a/x.icsx", false),
        ("/a/x", false),
        ("/a/x/.ics", false),
        ("/a/x/y.ics", false),
    ] {
        assert_eq!(matches("/a/{b}.ics", path), is_match, "{path}");
    }
    assert!(matches("/{a}.x/{b}", "/1.x/2") && !matches("/{a}.x/{b}", "/1/2.x"));
    let pattern = pattern("/a/{b}.ics");
    assert_eq!(pattern.bindings(&CanonicalPath::parse("/a/x.ics.ics").unwrap()), ["x.ics"]);
    assert_eq!(pattern.fill(&["y"]), "/a/y.ics");
    for text in ["/{a}{b}", "/{a}.{b}", "/{a}}", "/{a};", "/{a}%2f", "/{*a}.x", "/x{a}.y", "/{a}.x/{a}"] {
        assert!(Pattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn patterns_are_displayed_as_they_were_parsed() {
    for text in ["/", "/a/", "/a/{b}/c", "/{a}/{b_1}", "/a/%E3%83%9B", "/{*a}", "/a/{b}/{*c}", "/{a}.b/{c}-d"] {
        assert_eq!(pattern(text).to_string(), text);
    }
}

#[test]
fn a_trailing_slash_is_an_empty_segment() {
    assert!(matches("/a/", "/a/") && matches("/", "/") && !matches("/a/", "/a") && !matches("/a", "/a/"));
    assert!(!matches("/{a}", "/") && !matches("/a/{b}", "/a/") && !matches("/a/{b}", "/a/b/"));
}

#[test]
fn a_tail_matches_the_rest_of_the_path_after_its_slash() {
    for path in ["/a/", "/a/b", "/a/b/", "/a/b/c/d", "/a/%E3%83%9B/.x"] {
        assert!(matches("/a/{*rest}", path), "{path}");
    }
    for path in ["/a", "/", "/ab", "/ab/c", "/A/b", "/b/a/"] {
        assert!(!matches("/a/{*rest}", path), "{path}");
    }
    assert!(matches("/{*rest}", "/") && matches("/{*rest}", "/a/b"));
    assert!(matches("/{a}/{*rest}", "/b/") && !matches("/{a}/{*rest}", "/b") && !matches("/{a}/{*rest}", "/"));
}

#[test]
fn a_tail_is_the_last_segment_and_has_a_name_of_its_own() {
    for text in ["/{*a}/b", "/{*a}/", "/{*a}/{*b}", "/{*}", "/{a}/{*a}", "/{*a*}", "/{**a}", "/{* a}", "/b{*a}"] {
        assert!(Pattern::parse(text).is_err(), "{text}");
    }
    assert_eq!(Pattern::parse("/{*a}/b"), Err(InvalidPattern::Tail));
}

#[test]
fn names_bind_segments_and_the_tail_binds_the_rest() {
    let bound = |text: &str, path| pattern(text).bindings(&CanonicalPath::parse(path).unwrap()).join("|");
    assert_eq!(bound("/a/{b}/c/{d}", "/a/1/c/2"), "1|2");
    assert_eq!(bound("/a/{b}/{*c}", "/a/1/2/3/"), "1|2/3/");
    assert_eq!(bound("/a/{*c}", "/a/"), "");
    let filled = pattern("/x/{b}/{*c}").fill(&["1", "2/3/"]);
    assert_eq!(filled, "/x/1/2/3/");
}

#[test]
fn a_tail_is_bounded_in_segments_and_bytes() {
    let is_bounded = |path: &str| {
        let path = CanonicalPath::parse(path).unwrap();
        let pattern = pattern("/a/{*rest}");
        assert!(pattern.matches(&path));
        pattern.has_bounded_tail(&path)
    };
    assert!(is_bounded("/a/"));
    assert!(is_bounded(&format!("/a{}", "/b".repeat(MAX_TAIL_SEGMENTS))));
    assert!(!is_bounded(&format!("/a{}", "/b".repeat(MAX_TAIL_SEGMENTS + 1))));
    assert!(!is_bounded(&format!("/a{}/", "/b".repeat(MAX_TAIL_SEGMENTS))));
    assert!(is_bounded(&format!("/a/{}", "b".repeat(MAX_TAIL_BYTES))));
    assert!(!is_bounded(&format!("/a/{}", "b".repeat(MAX_TAIL_BYTES + 1))));
}

#[test]
fn patterns_that_differ_in_their_literal_beginnings_have_prefixes() {
    for (own, other, prefixes) in [
        ("/v2/{*rest}", "/app/{*rest}", Some(("/v2", "/app"))),
        ("/{*rest}", "/app/x/{*rest}", Some(("", "/app/x"))),
        ("/v2/{*rest}", "/{*rest}", Some(("/v2", ""))),
        ("/v2/{a}/b/{c}", "/{a}/b/{c}", Some(("/v2", ""))),
        ("/v2/", "/app/", Some(("/v2", "/app"))),
        ("/a", "/b", Some(("/a", "/b"))),
        ("/a/{*rest}", "/a/{*rest}", None),
        ("/{b}/{a}", "/x/{a}/{b}", None),
        ("/v2", "/app/{*rest}", None),
    ] {
        let prefixes = prefixes.map(|(own, other): (&str, &str)| (own.to_owned(), other.to_owned()));
        assert_eq!(pattern(own).prefixes(&pattern(other)), prefixes, "{own} {other}");
    }
}

#[test]
fn a_pattern_covers_those_whose_paths_it_all_matches() {
    for (own, other) in [
        ("/{*a}", "/"),
        ("/{*a}", "/{b}/{*c}"),
        ("/a/{*b}", "/a/"),
        ("/a/{*b}", "/a/{c}"),
        ("/a/{*b}", "/a/{*c}"),
        ("/{a}/{*b}", "/a/{*c}"),
        ("/a/{b}", "/a/c"),
        ("/a/{b}", "/a/{b}.x"),
        ("/a/{b}.x", "/a/{b}.y.x"),
        ("/a/{b}.x", "/a/c.x"),
    ] {
        assert!(pattern(own).covers(&pattern(other)), "{own} {other}");
    }
    for (own, other) in [
        ("/a/{b}.x", "/a/{b}"),
        ("/a/{b}.x", "/a/.x"),
        ("/a/{b}.x", "/a/{b}.y"),
        ("/a/{*b}", "/a"),
        ("/a/{*b}", "/{*c}"),
        ("/a/{b}", "/a/{*c}"),
        ("/a/{b}", "/a/"),
        ("/{a}/{*b}", "/{*c}"),
        ("/a", "/a/{*c}"),
        ("/a/b", "/a"),
    ] {
        assert!(!pattern(own).covers(&pattern(other)), "{own} {other}");
    }
}
