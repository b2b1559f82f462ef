//! All texts of the page, in both languages.

use serde_json::{Map, Value};

use super::language::Language;

/// A text in each language. `{name}` is replaced by a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    english: &'static str,
    japanese: &'static str,
}

impl Text {
    /// The text in `language`.
    pub(crate) fn of(self, language: Language) -> &'static str {
        match language {
            Language::English => self.english,
            Language::Japanese => self.japanese,
        }
    }
}

/// `text` with values in place of their names. A value is not searched for names.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        filled.push_str(before);
        filled.push_str(values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value));
        rest = after;
    }
    filled + rest
}

/// Defines a list of texts: the name, English, Japanese.
macro_rules! texts {
    ($list:ident: $($name:ident $english:literal $japanese:literal)*) => {
        $(pub(super) const $name: Text = Text { english: $english, japanese: $japanese };)*
        #[cfg_attr(not(test), allow(dead_code, reason = "the list is for the scripts, and for the tests of all lists"))]
        const $list: &[(&str, Text)] = &[$((stringify!($name), $name)),*];
    };
}

texts! { PAGE:
    TITLE "Holodule administration" "ホロジュール管理"
    SKIP "Skip to the content" "本文へ移動"
    MAIN_MENU "Main menu" "メインメニュー"
    NOTIFICATIONS "Notifications" "お知らせ"
    LANGUAGE "Language" "言語"
    NO_SCRIPT "Without JavaScript, this page can only be read." "JavaScript が無効のため、閲覧のみできます。"
    CALENDAR "Calendar" "カレンダー"
    MONTH "{month} {year}" "{year}年{month}"
    DATE "{weekday}, {day} {month} {year}" "{year}年{month}{day}日（{weekday}）"
    WEEKDAYS "Mon Tue Wed Thu Fri Sat Sun" "月 火 水 木 金 土 日"
    LONG_WEEKDAYS "Monday Tuesday Wednesday Thursday Friday Saturday Sunday" "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日"
    MONTHS "January February March April May June July August September October November December" "1月 2月 3月 4月 5月 6月 7月 8月 9月 10月 11月 12月"
    PREVIOUS_MONTH "Previous month" "前の月"
    NEXT_MONTH "Next month" "次の月"
    PREVIOUS_DAY "Previous day" "前の日"
    NEXT_DAY "Next day" "次の日"
    TODAY "Today" "今日"
    GO_TO_DAY "Go to day" "日付へ移動"
    GO "Go" "移動"
    STREAMS_OF_MONTH "Streams per day, Japan time" "日ごとの配信数（日本時間）"
    STREAMS "{count} streams" "配信 {count} 件"
    ONE_STREAM "1 stream" "配信 1 件"
    NO_STREAMS "No streams on this day." "この日の配信はありません。"
    HOURS "Streams per hour" "時間ごとの配信数"
    HOUR "{hour}:00" "{hour}時"
    UNTIMED "Without a valid time" "時刻が正しくないもの"
    LATER "Later streams of this day" "この日の続きを表示"
    UNREADABLE "{count} documents could not be read and are missing here; the log has their ids." "{count} 件の文書は読み取れないため表示していません。ID はログにあります。"
    UNTITLED "(no title)" "（タイトルなし）"
    NOT_A_LINK "Not shown as a link, because it is not https:" "https ではないためリンクにしていません："
    NO_IDENTIFIER "Without a valid video ID or a key alone, it cannot be changed here." "有効な動画 ID または単独のキーがないため、ここでは変更できません。"
    ADD_STREAM "Add a stream" "配信を追加"
    EDIT_STREAM "Edit a stream" "配信を編集"
    EDIT "Edit" "編集"
    DELETE "Delete" "削除"
    EDIT_THIS "Edit: {title}" "編集：{title}"
    DELETE_THIS "Delete: {title}" "削除：{title}"
    SAVE "Save" "保存"
    CANCEL "Cancel" "キャンセル"
    VIDEO_ID "Video ID" "動画 ID"
    VIDEO_ID_HINT "11 characters, from the address of the video. It identifies the stream and cannot be changed later." "動画のアドレスにある 11 文字。配信を識別するため、後から変更できません。"
    KEY "Key" "キー"
    KEY_HINT "Code, date and time, such as HL0503_20201209_230000. It may be empty if there is a video ID." "コード・日付・時刻（例：HL0503_20201209_230000）。動画 ID があれば空でもかまいません。"
    CODE "Streamer's code" "配信者コード"
    CODE_HINT "Such as HL0503." "例：HL0503"
    STARTS "Start, Japan time" "開始時刻（日本時間）"
    STARTS_HINT "Such as 2020-12-09 23:00:00." "例：2020-12-09 23:00:00"
    NAME "Streamer's name" "配信者名"
    STREAM_TITLE "Title" "タイトル"
    URL "Address" "アドレス"
    URL_HINT "It begins with https://." "https:// で始まるアドレス"
    DESCRIPTION "Description" "説明"
    CONFIRM_DELETE "Delete for good?" "完全に削除しますか？"
    FAILED "The page cannot be shown" "ページを表示できません"
    TO_CALENDAR "To the calendar" "カレンダーへ"
}

texts! { SCRIPTS:
    CREATED "Added." "追加しました。"
    SAVED "Saved." "保存しました。"
    DELETED "Deleted: {title}" "削除しました：{title}"
    UNDO "Undo" "元に戻す"
    RESTORED "Restored: {title}" "元に戻しました：{title}"
    DISMISS "Dismiss" "閉じる"
    INCOMPLETE_UNDO "This stream cannot be restored exactly: parts of it are in a form that this service does not store." "この配信には、このサービスでは保存できない形の内容があるため、削除すると完全には元に戻せません。"
    SEVERAL_DOCUMENTS "{count} documents have this video ID. All of them are deleted, and cannot be restored." "この動画 ID の文書が {count} 件あります。すべて削除され、元に戻せません。"
    IN_USE "Another stream has it already." "すでに別の配信が使っています。"
    CHANGED_MEANWHILE "The stream has been changed in the meantime. Save again to apply your changes to it." "編集中にこの配信が変更されました。もう一度保存すると、あなたの変更が反映されます。"
    GONE "It has been deleted in the meantime." "すでに削除されています。"
    UNREACHABLE "The service does not respond. Try again." "サービスに接続できません。もう一度お試しください。"
    REFUSED "Refused: {reason}" "受け付けられませんでした：{reason}"
}

/// The texts of the scripts as JSON, by name, and the translations of the service's messages.
pub(super) fn for_scripts(language: Language) -> String {
    let texts: Map<String, Value> =
        SCRIPTS.iter().map(|(name, text)| ((*name).to_owned(), text.of(language).into())).collect();
    Value::Object(texts).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in braces.
    fn names(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).filter_map(|part| Some(part.split_once('}')?.0)).collect()
    }

    #[test]
    fn each_text_is_in_both_languages() {
        let mut seen = BTreeSet::new();
        for (name, text) in PAGE.iter().chain(SCRIPTS) {
            assert!(seen.insert(name), "{name} is there twice");
            assert!(!text.english.is_empty() && text.english.is_ascii(), "{name}");
            let is_japanese = |c: char| matches!(c, '\u{3000}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}');
            assert!(text.japanese.contains(is_japanese), "{name}");
            assert_eq!(names(text.english), names(text.japanese), "{name}");
        }
        for (list, count) in [(WEEKDAYS, 7), (LONG_WEEKDAYS, 7), (MONTHS, 12)] {
            for language in Language::ALL {
                assert_eq!(list.of(language).split(' ').count(), count);
            }
        }
    }

    #[test]
    fn each_text_is_used() {
        let sources = [
            include_str!("calendar.rs"),
            include_str!("entries.rs"),
            include_str!("layout.rs"),
            include_str!("record_form.rs"),
            include_str!("view.rs"),
            include_str!("when.rs"),
        ];
        for (name, _) in PAGE {
            assert!(sources.iter().any(|source| source.contains(&format!("texts::{name}"))), "{name}");
        }
        let scripts: String = super::super::assets::scripts().collect();
        for (name, _) in SCRIPTS {
            assert!(scripts.contains(&format!("\"{name}\"")), "{name}");
        }
        for used in scripts.split("say(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(SCRIPTS.iter().any(|(name, _)| *name == used), "{used} is not defined");
        }
    }

    #[test]
    fn values_are_filled_in_once() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "2")]), "{b} and 2");
        assert_eq!(fill("{none}{", &[]), "{");
    }
}
