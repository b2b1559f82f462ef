//! Streams in a list.

use maud::{Markup, html};

use super::language::Language;
use super::texts;
use super::view::View;
use crate::model::{Holodule, Identifier, WallClock};

/// The identifier by which a stream can be changed; `None` if it would be that of another one.
fn identifier(holodule: &Holodule) -> Option<String> {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (filled(&holodule.video_id), filled(&holodule.key)) {
        (Some(video_id), _) => match Identifier::parse(&video_id) {
            Ok(Identifier::VideoId(_)) => Some(video_id),
            Ok(Identifier::Key(_)) | Err(_) => None,
        },
        (None, Some(key)) => match Identifier::parse(&key) {
            Ok(Identifier::Key(_)) => Some(key),
            Ok(Identifier::VideoId(_)) | Err(_) => None,
        },
        (None, None) => None,
    }
}

/// A stored address that may be a link: its host is what follows `https://`, not what follows a user name that
/// resembles another host (RFC 3986, section 7.6).
fn https(holodule: &Holodule) -> Option<&str> {
    let has_plain_host = |url: &&str| {
        let authority = url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#', '\\']).next());
        authority.is_some_and(|authority| !authority.contains('@'))
    };
    holodule.url.as_deref().filter(has_plain_host)
}

/// The language of a stored text if it is Japanese and the page is not, so that it is read and shown as such.
fn language(view: &View, text: &str) -> Option<&'static str> {
    let is_japanese =
        |c: char| matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ff66}'..='\u{ff9f}');
    (view.language != Language::Japanese && text.contains(is_japanese)).then_some(Language::Japanese.tag())
}

/// The time of the day, such as 23:00, or the stored text.
fn time(at: Option<WallClock>, holodule: &Holodule) -> String {
    match at {
        Some(at) => at.collector().get(11..16).unwrap_or_default().to_owned(),
        None => holodule.datetime.clone().unwrap_or_default(),
    }
}

/// One stream: its time, title and streamer, with buttons to edit and to delete it.
pub(super) fn entry(view: &View, holodule: &Holodule, with_date: bool) -> Markup {
    let title = title_of(view, holodule);
    let actions = html! {
        @match identifier(holodule) {
            Some(id) => div.actions {
                button type="button" data-edit=(id) aria-label=(view.fill(texts::EDIT_THIS, &[("title", title)])) {
                    (view.text(texts::EDIT))
                }
                button type="button" data-delete=(id) data-title=(title)
                    aria-label=(view.fill(texts::DELETE_THIS, &[("title", title)])) { (view.text(texts::DELETE)) }
            },
            None => p.actions.hint { (view.text(texts::NO_IDENTIFIER)) },
        }
    };
    entry_with(view, holodule, with_date, &actions)
}

fn title_of<'a>(view: &View, holodule: &'a Holodule) -> &'a str {
    let title = holodule.title.as_deref().map(str::trim).filter(|title| !title.is_empty());
    title.unwrap_or(view.text(texts::UNTITLED))
}

/// One stream with other actions.
pub(super) fn entry_with(view: &View, holodule: &Holodule, with_date: bool, actions: &Markup) -> Markup {
    let at = holodule.starts_at();
    let title = title_of(view, holodule);
    let url = holodule.url.as_deref().filter(|url| !url.is_empty());
    let facts = [holodule.effective_code(), holodule.video_id.as_deref().filter(|id| !id.is_empty())];
    html! {
        li.entry {
            @match at {
                Some(at) => time.at datetime=(at.rfc3339()) {
                    @if with_date { span.date { (at.day().iso()) } " " }
                    (time(Some(at), holodule))
                },
                None => span.at { (time(None, holodule)) },
            }
            div.what {
                @let name = holodule.name.as_deref().unwrap_or_default();
                p.name lang=[language(view, name)] { (name) }
                p.title lang=[language(view, title)] {
                    @match https(holodule) {
                        Some(url) => a href=(url) target="_blank" rel="noopener noreferrer" { (title) },
                        None => (title),
                    }
                }
                @if let Some(url) = url.filter(|_| https(holodule).is_none()) {
                    p.notice { (view.text(texts::NOT_A_LINK)) " " code { (url) } }
                }
            }
            p.facts { @for fact in facts.into_iter().flatten() { code { (fact) } " " } }
            (actions)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(holodule: &Holodule) -> String {
        let view = View { language: Language::English, is_chosen: false, path: "/".to_owned(), query: Vec::new() };
        entry(&view, holodule, false).into_string()
    }

    #[test]
    fn only_https_is_a_link() {
        let with = |url: &str| shown(&Holodule { url: Some(url.to_owned()), ..Holodule::default() });
        assert!(
            with("https://www.youtube.com/watch?v=x&t=1")
                .contains(r#"href="https://www.youtube.com/watch?v=x&amp;t=1""#)
        );
        for url in [
            "http://a.example/",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "//a.example",
            "HTTPS://a.example",
            "data:text/html,x",
            "https://user:pw@host.example/",
            "https://www.youtube.com@a.example/",
        ] {
            let shown = with(url);
            assert!(!shown.contains("href") && shown.contains(url), "{shown}");
        }
    }

    #[test]
    fn japanese_is_marked_in_an_english_page() {
        let of = |title: &str, language| {
            let view = View { language, is_chosen: false, path: "/".to_owned(), query: Vec::new() };
            let holodule = Holodule { title: Some(title.into()), name: Some(title.into()), ..Holodule::default() };
            entry(&view, &holodule, false).into_string().matches("lang=\"ja\"").count()
        };
        assert_eq!(of("歌枠", Language::English), 2);
        assert_eq!(of("ｱｲﾄﾞﾙ", Language::English), 2);
        assert_eq!(of("Karaoke!", Language::English), 0);
        assert_eq!(of("歌枠", Language::Japanese), 0);
    }

    #[test]
    fn stored_text_is_escaped() {
        let text = || Some("<script>alert(\"1\")</script>".to_owned());
        let hostile = Holodule {
            key: text(),
            name: text(),
            title: text(),
            url: text(),
            datetime: text(),
            code: text(),
            ..Holodule::default()
        };
        let shown = shown(&hostile);
        assert!(!shown.contains("<script") && !shown.contains("alert(\""), "{shown}");
        assert_eq!(shown.matches("&lt;script&gt;").count(), 10);
    }

    #[test]
    fn a_stream_is_changed_by_its_own_identifier_or_not_at_all() {
        let of = |video_id: &str, key: &str| {
            identifier(&Holodule { video_id: Some(video_id.into()), key: Some(key.into()), ..Holodule::default() })
        };
        assert_eq!(of("dQw4w9WgXc_", "HL0503_20201209_230000").as_deref(), Some("dQw4w9WgXc_"));
        assert_eq!(of("", "HL0503_20201209_230000").as_deref(), Some("HL0503_20201209_230000"));
        for (video_id, key) in [("short", "HL0503_20201209_230000"), ("", ""), ("", "dQw4w9WgXc_"), ("", "a\nb")] {
            assert_eq!(of(video_id, key), None);
        }
    }
}
