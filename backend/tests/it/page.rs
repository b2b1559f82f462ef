//! The admin page: its headers, its languages, and that it shows stored text as text.

use holodule_backend::model::Holodule;

use crate::http::{self, Reply};
use crate::service::{Service, Setup, holodule};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";
const DAY: &str = "/?day=2020-12-09";

async fn open(service: &Service, path: &str, language: &str) -> Reply {
    http::send(&service.admin, "GET", path, &[("Accept-Language", language)], "").await
}

/// The values of an attribute in a document.
fn values<'a>(document: &'a str, attribute: &str) -> Vec<&'a str> {
    let parts = document.split(attribute).skip(1);
    parts.filter_map(|part| part.strip_prefix("=\"")?.split('"').next()).collect()
}

#[tokio::test]
async fn a_document_loads_only_from_this_service_and_is_in_no_frame() {
    let service = Service::start().await;
    let views = ["/page/transfer", "/page/users", "/page/duplicates", "/page/health", "/?month=13"];
    for path in ["/", DAY, "/?month=2020-12"].into_iter().chain(views) {
        let page = open(&service, path, "en").await;
        assert_eq!(page.status, if path.ends_with('3') { 400 } else { 200 }, "{path}");
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("content-security-policy"), POLICY);
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(page.header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("vary"), "Accept-Language");
        let loaded: Vec<&str> = [values(&page.body, " src"), values(&page.body, " href")].concat();
        assert!(loaded.iter().all(|address| address.starts_with('/') || address.starts_with('#')), "{loaded:?}");
        assert!(!page.body.contains("<style") && !page.body.contains(" style=") && !page.body.contains(" onclick"));
    }
    let other = http::send(&service.admin, "POST", "/", &[("Content-Type", "application/json")], "{}").await;
    assert_eq!((other.status, other.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn scripts_and_styles_are_cached_by_their_content() {
    let service = Service::start().await;
    let page = open(&service, "/", "en").await.body;
    let assets: Vec<String> =
        [values(&page, " src"), values(&page, " href")].concat().into_iter().map(str::to_owned).collect();
    let assets: Vec<String> = assets.into_iter().filter(|path| path.starts_with("/page/assets/")).collect();
    assert_eq!(assets.len(), 4, "a script, two styles and an icon");
    for path in &assets {
        let first = http::send(&service.admin, "GET", path, &[], "").await;
        assert_eq!(first.status, 200, "{path}");
        assert_eq!(first.header("cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(first.header("x-content-type-options"), "nosniff");
        let tag = first.header("etag").to_owned();
        let again = http::send(&service.admin, "GET", path, &[("If-None-Match", &tag)], "").await;
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", tag.as_str()));
        let hash = path.split('/').nth(3).unwrap();
        let other = http::send(&service.admin, "GET", &path.replace(hash, "0123456789abcdef"), &[], "").await;
        assert_eq!(other.status, 404, "a year of caching is for this content only");
    }
    for path in ["/page/assets/", "/page/assets/x", "/page/assets/../record", "/page/", "/page", "/page/none"] {
        assert_eq!(http::send(&service.admin, "GET", path, &[], "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn stored_text_is_shown_as_text_and_only_https_as_a_link() {
    let service = Service::start().await;
    let script = "<script>alert(1)</script>\"'&";
    let hostile = Holodule {
        name: Some(script.into()),
        title: Some(script.into()),
        description: Some(script.into()),
        ..holodule(1, "20201209 230000")
    };
    let plain = Holodule { url: Some("http://plain.example/".into()), ..holodule(2, "20201209 230001") };
    service.holodules([hostile, plain]).await;
    let page = open(&service, DAY, "en").await.body;
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    assert!(page.contains(r#"href="https://www.youtube.com/watch?v=video000001""#));
    assert!(!page.contains("href=\"http:") && page.contains("<code>http://plain.example/</code>"));
    let reflected = open(&service, "/?day=%3Cscript%3E", "en").await;
    assert_eq!(reflected.status, 400);
    assert!(!reflected.body.contains("<script>"), "{}", reflected.body);
}

#[tokio::test]
async fn the_language_is_chosen_or_negotiated() {
    let service = Service::start().await;
    service.holodules([holodule(1, "20201209 230000")]).await;
    for (path, accept, tag, word) in [
        (DAY, "ja,en;q=0.5", "ja", "2020年12月9日（水）"),
        (DAY, "en", "en", "Wednesday, 9 December 2020"),
        (DAY, "fr", "en", "Wednesday, 9 December 2020"),
        ("/?day=2020-12-09&lang=ja", "en", "ja", "2020年12月9日（水）"),
        ("/?day=2020-12-09&lang=en", "ja", "en", "Wednesday, 9 December 2020"),
        ("/?day=20201209&lang=xx", "ja", "ja", "2020年12月9日（水）"),
    ] {
        let page = open(&service, path, accept).await.body;
        assert!(page.contains(&format!("<html lang=\"{tag}\">")), "{path} {accept}");
        assert!(page.contains(word), "{path} {accept}");
        let retained = page.contains(&format!("href=\"/?day=2020-12-08&amp;lang={tag}\""));
        assert_eq!(retained, path.contains("lang=e") || path.contains("lang=j"), "{path}");
    }
}

#[tokio::test]
async fn a_day_has_its_streams_by_hour_and_a_month_their_number() {
    let service = Service::start().await;
    let times = ["20201209 090000", "20201209 230000", "20201209 235959", "20201210 000000"];
    service.holodules(times.into_iter().zip(1..).map(|(time, number)| holodule(number, time))).await;
    let page = open(&service, DAY, "en").await.body;
    for label in [
        "Wednesday, 9 December 2020, 3 streams",
        "Thursday, 10 December 2020, 1 stream",
        "Friday, 11 December 2020, 0 streams",
    ] {
        assert!(values(&page, "aria-label").contains(&label), "{label}");
    }
    let position = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(position("id=\"h09\"") < position("title 1<") && position("title 1<") < position("id=\"h23\""));
    assert!(position("title 2<") < position("title 3<"), "in ascending order");
    assert!(!page.contains("title 4<"));
    let month = open(&service, "/?month=2020-12", "en").await.body;
    assert!(month.contains("title 3<"), "the first day with streams");
    let late = open(&service, "/?day=2020-12-09&from=235900", "en").await.body;
    assert!(
        late.contains("title 3<") && !late.contains("title 2<") && late.contains("<p class=\"total\">3 streams</p>")
    );
    assert_eq!(open(&service, "/?day=2020-12-09&from=x", "en").await.status, 400);
}

#[tokio::test]
async fn a_long_day_is_shown_in_parts() {
    let service = Service::start().await;
    let time = |n: u32| format!("20201209 {:02}{:02}{:02}", n / 3600, n / 60 % 60, n % 60);
    service.holodules((1..=501).map(|n| holodule(n, &time(n)))).await;
    let page = open(&service, DAY, "en").await.body;
    assert!(page.contains("501 streams") && page.contains("title 500<") && !page.contains("title 501<"));
    let rest = open(&service, "/?day=2020-12-09&from=000821", "en").await.body;
    assert!(page.contains("href=\"/?day=2020-12-09&amp;from=000821\"") && rest.contains("title 501<"));
    assert!(!rest.contains("title 500<"));
}

#[tokio::test]
async fn a_record_is_read_as_it_is_stored() {
    let service = Service::start().await;
    let stored: Holodule = serde_json::from_str(
        r#"{"key":"","video_id":"dQw4w9WgXc_","datetime":"20201209 230000","title":"a\nb","tags":["x",1.0,10000000000000000]}"#,
    )
    .unwrap();
    service.holodules([stored]).await;
    let export = http::send(&service.admin, "GET", "/holodules", &[], "").await.body;
    let read = http::send(&service.admin, "GET", "/page/record?id=dQw4w9WgXc_", &[], "").await;
    assert_eq!(format!("{}\n", read.body), export);
    assert_eq!((read.header("x-documents"), read.header("x-restorable")), ("1", "true"));
    assert_eq!(service.admin("DELETE", "/holodules/dQw4w9WgXc_", "").await.status, 204);
    let gone = http::send(&service.admin, "GET", "/page/record?id=dQw4w9WgXc_", &[], "").await;
    assert_eq!(gone.status, 404);
    assert_eq!(service.admin("PUT", "/holodules/dQw4w9WgXc_", &read.body).await.status, 201);
    assert_eq!(http::send(&service.admin, "GET", "/holodules", &[], "").await.body, export, "to the byte");
    for (path, status) in
        [("/page/record", 400), ("/page/record?id=", 400), ("/page/record?id=a%0Ab", 400), ("/page/record?x=1", 400)]
    {
        assert_eq!(http::send(&service.admin, "GET", path, &[], "").await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_write_under_a_precondition_overwrites_no_other() {
    let service = Service::start().await;
    let path = "/holodules/dQw4w9WgXc_";
    let send = async |method: &str, condition: (&str, &str), title: &str| {
        let body = format!(r#"{{"video_id":"dQw4w9WgXc_","datetime":"20201209 230000","title":"{title}"}}"#);
        let headers = [("Content-Type", "application/json"), condition];
        http::send(&service.admin, method, path, &headers, if method == "PUT" { &body } else { "" }).await.status
    };
    let tag = async || {
        let read = http::send(&service.admin, "GET", "/page/record?id=dQw4w9WgXc_", &[], "").await;
        assert_eq!(read.header("x-same-identifier"), "1");
        read.header("etag").to_owned()
    };
    assert_eq!(send("PUT", ("If-Match", "*"), "a").await, 412);
    assert_eq!(send("PUT", ("If-None-Match", "*"), "a").await, 201);
    assert_eq!(send("PUT", ("If-None-Match", "*"), "b").await, 412);
    let first = tag().await;
    assert_eq!(send("PUT", ("If-Match", &first), "b").await, 200);
    assert_eq!(send("PUT", ("If-Match", &first), "c").await, 412);
    assert_eq!(send("DELETE", ("If-Match", &first), "").await, 412);
    assert_eq!(send("PUT", ("If-Match", "b"), "c").await, 400);
    assert_eq!(send("DELETE", ("If-None-Match", "b"), "").await, 400);
    assert!(http::send(&service.admin, "GET", "/holodules", &[], "").await.body.contains(r#""title":"b""#));
    let headers = [("Content-Type", "application/json"), ("If-Match", first.as_str())];
    let refused = http::send(&service.admin, "DELETE", path, &headers, "").await;
    assert!(refused.json()["description"].as_str().unwrap().contains("If-Match"));
    assert_eq!(send("DELETE", ("If-Match", &tag().await), "").await, 204);
    // Without the precondition, the status would be the same (RFC 9110, section 13.2.1).
    assert_eq!(send("DELETE", ("If-Match", &first), "").await, 404);
}

#[tokio::test]
async fn users_are_shown_with_their_state_and_without_their_passwords() {
    let service = Service::start().await;
    service.user("<b>user</b> 01", "password01").await;
    service.user("user02", "$2b$12$secretsecretsecretsecret").await;
    service.admin("PATCH", "/users/user02", r#"{"disabled":true}"#).await;
    service.admin("PUT", "/users/user02/roles", r#"["viewer","<editor>"]"#).await;
    let page = open(&service, "/page/users", "en").await.body;
    assert!(page.contains("&lt;b&gt;user&lt;/b&gt; 01") && !page.contains("<b>user"), "{page}");
    assert!(page.contains("plain text") && page.contains("bcrypt") && page.contains("2 in total"));
    assert!(!page.contains("password01") && !page.contains("secretsecret"));
    assert!(page.contains("<code class=\"role\">&lt;editor&gt;</code>"));
    assert_eq!((page.matches(">enabled<").count(), page.matches(">disabled<").count()), (1, 1));
}

#[tokio::test]
async fn the_calendar_feeds_of_a_user_are_shown_without_their_keys() {
    let service = Service::start().await;
    service.user("<b>user</b>", "password01").await;
    let users = open(&service, "/page/users", "en").await.body;
    assert!(users.contains("href=\"/page/calendars?user=%3Cb%3Euser%3C%2Fb%3E\""), "{users}");
    let path = "/page/calendars?user=%3Cb%3Euser%3C%2Fb%3E";
    assert!(open(&service, path, "en").await.body.contains("This user has no calendar feed."));
    let headers = [("X-Auth-Identity", "%3Cb%3Euser%3C%2Fb%3E"), ("Content-Type", "application/json")];
    let body = r#"{"label":"<i>label</i>","tag":["<u>tag</u>"]}"#;
    let feed = http::send(&service.api, "POST", "/calendar", &headers, body).await.json();
    for language in ["en", "ja"] {
        let page = open(&service, path, language).await.body;
        let id = feed["id"].as_str().unwrap();
        assert_eq!(values(&page, "data-feed-delete"), [id], "{page}");
        assert!(page.contains("&lt;i&gt;label&lt;/i&gt;") && page.contains("tag=&lt;u&gt;tag&lt;/u&gt;"));
        assert!(!page.contains(feed["key"].as_str().unwrap()) && !page.contains("<i>") && !page.contains("<u>"));
    }
    for (path, status) in [("/page/calendars?user=other", 404), ("/page/calendars", 400)] {
        assert_eq!(open(&service, path, "en").await.status, status, "{path}");
    }
}

#[tokio::test]
async fn the_state_is_shown() {
    let service = Service::start().await;
    service.holodules([holodule(1, "20201209 230000")]).await;
    let page = open(&service, "/page/health", "en").await.body;
    assert!(page.contains("<strong>Ready.</strong>"));
    for fact in ["<dt>Store</dt><dd>redb</dd>", "<dt>Streams</dt><dd>1</dd>", "<dt>Users</dt><dd>0</dd>"] {
        assert!(page.contains(fact), "{fact}");
    }
    let duplicates = open(&service, "/page/duplicates", "en").await.body;
    assert!(duplicates.contains("There are none."));
}

#[tokio::test]
async fn streams_are_found_page_by_page() {
    let service = Service::start().await;
    service.holodules((1..=250).map(|n| holodule(n, &format!("20201209 {:02}{:02}00", n / 60, n % 60)))).await;
    let found = |page: &str| values(page, "button type=\"button\" data-edit").len();
    let mut path =
        "/page/search?streamer=%E3%81%A8%E3%81%8D%E3%81%AE%E3%81%9D%E3%82%89&from=2020-12-01&to=2020-12-31".to_owned();
    for count in [100, 100, 50] {
        let page = open(&service, &path, "en").await.body;
        assert!(page.contains("250 streams") && found(&page) == count, "{path}");
        let next = values(&page, "rel=\"next\" href");
        assert_eq!(next.len(), usize::from(count == 100));
        path = next.first().map(|next| next.replace("&amp;", "&")).unwrap_or(path);
    }
    let by_code = open(&service, "/page/search?streamer=HL0007&from=2020-12-01", "en").await.body;
    assert_eq!((by_code.contains("1 stream<"), found(&by_code)), (true, 1));
    let by_text = open(&service, "/page/search?q=TITLE+250&from=20201201&to=20201231&order=earliest", "en").await.body;
    assert_eq!(found(&by_text), 1);
    for (path, status, reason) in [
        ("/page/search?q=a&from=2020-01-01&to=2020-12-31", 200, "With a text, at most 92 days."),
        ("/page/search?q=%3Cscript%3E%00", 200, "without control characters"),
        ("/page/search?from=x", 400, "the first day is not one of the calendar"),
        ("/page/search?q=a&cursor=x", 400, "the cursor is not a value of next"),
        ("/page/search?x=1", 400, "there is no parameter"),
    ] {
        let page = open(&service, path, "en").await;
        assert_eq!((page.status, page.body.contains(reason)), (status, true), "{path}");
        assert!(!page.body.contains("<script>"), "{path}");
    }
}

#[tokio::test]
async fn a_problem_of_a_search_is_at_its_fields_and_in_the_language_of_the_page() {
    let service = Service::start().await;
    let year = "from=2020-01-01&to=2020-12-31";
    for (query, language, fields, id, text) in [
        (format!("q=a&{year}"), "en", "from to", "days-error", "With a text, at most 92 days."),
        (format!("q=a&{year}"), "ja", "from to", "days-error", "92 日以内"),
        ("from=2020-01-01&to=2021-02-01".to_owned(), "en", "from to", "days-error", "At most 366 days."),
        ("from=2020-01-02&to=2020-01-01".to_owned(), "ja", "from to", "days-error", "終了日以前"),
        ("q=%00".to_owned(), "ja", "q", "q-error", "制御文字"),
    ] {
        let page = open(&service, &format!("/page/search?{query}"), language).await.body;
        let inputs = page
            .split("<input id=\"")
            .skip(1)
            .filter(|input| input.split('>').next().is_some_and(|input| input.contains("aria-invalid=\"true\"")));
        let marked: Vec<&str> = inputs.filter_map(|input| input.split('"').next()).collect();
        assert_eq!(marked.join(" "), fields, "{query}");
        let described = values(&page, "aria-describedby");
        assert_eq!(described.iter().filter(|described| **described == id).count(), marked.len(), "{query}");
        let shown =
            page.split(&format!("<p class=\"error\" id=\"{id}\">")).nth(1).and_then(|rest| rest.split('<').next());
        assert!(shown.is_some_and(|shown| shown.contains(text)), "{query}: {shown:?}");
    }
}

#[tokio::test]
async fn searches_of_the_page_are_limited_in_their_number() {
    let mut setup = Setup::default();
    setup.handler.lists.search.concurrency = 0;
    let service = Service::with(setup).await;
    let by_text = open(&service, "/page/search?q=a&from=20201201&to=20201231", "en").await;
    assert_eq!((by_text.status, by_text.header("retry-after")), (503, "1"));
    assert_eq!(open(&service, "/page/search?streamer=HL0007&from=20201201", "en").await.status, 200);
}

#[tokio::test]
async fn a_view_is_not_made_for_a_page_of_another_site_that_embeds_it() {
    let service = Service::start().await;
    let get = async |site, mode| {
        let headers = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)];
        http::send(&service.admin, "GET", "/page/search?q=a", &headers, "").await.status
    };
    assert_eq!((get("cross-site", "no-cors").await, get("same-site", "cors").await), (403, 403));
    // A link on another page, and the page itself.
    assert_eq!((get("cross-site", "navigate").await, get("same-origin", "cors").await), (200, 200));
}

#[tokio::test]
async fn a_disabled_page_does_not_exist() {
    let mut setup = Setup::default();
    setup.handler.page = false;
    let service = Service::with(setup).await;
    for path in [
        "/",
        DAY,
        "/page/record?id=x",
        "/page/users",
        "/page/calendars?user=x",
        "/page/health",
        "/page/assets/x/page.css",
    ] {
        let reply = http::send(&service.admin, "GET", path, &[], "").await;
        assert_eq!((reply.status, reply.json()["description"].as_str()), (404, Some("no such route")), "{path}");
    }
    assert_eq!(http::send(&service.admin, "GET", "/users", &[], "").await.status, 200);
}

#[tokio::test]
async fn errors_are_in_the_language_of_the_page() {
    let service = Service::start().await;
    for (path, status, english) in [
        ("/?day=zz", 400, "the day is not one of the calendar"),
        ("/?month=2020-13", 400, "the month is not one of the calendar"),
        ("/?day=2020-12-09&from=zz", 400, "the start is not a time as hhmmss"),
        ("/?x=1", 400, "there is no parameter"),
        ("/?day=%zz", 400, "day has a % without two hexadecimal digits"),
        ("/?day=%FF", 400, "day is not UTF-8"),
        ("/?day=1&day=2", 400, "day must not be repeated"),
        ("/page/search?from=zz", 400, "the first day is not one of the calendar"),
        ("/page/search?to=zz", 400, "the last day is not one of the calendar"),
        ("/page/search?from=2020-01-01&to=2020-01-02&cursor=x", 400, "the cursor is not a value of next in a response"),
        ("/page/nope", 404, "no such page"),
        ("/page/users/x", 404, "no such page"),
    ] {
        let page = open(&service, path, "en").await;
        assert_eq!((page.status, page.header("content-type")), (status, "text/html; charset=utf-8"), "{path}");
        assert!(page.body.contains(&format!("<p>{english}")), "{path}: {}", page.body);
        let page = open(&service, path, "ja").await;
        let shown = page.body.split("<h1>").nth(1).unwrap().split("<p>").nth(1).unwrap().split('<').next().unwrap();
        assert_eq!(page.status, status, "{path}");
        assert!(!shown.is_ascii() && !shown.contains(english), "{path}: {shown}");
    }
    let long = open(&service, &format!("/?day={}", "1".repeat(9000)), "ja").await;
    assert_eq!((long.status, long.body.contains("バイトを超えています")), (414, true));
}
