//! All texts of the page, in both languages.

use serde_json::{Map, Value};

use super::language::Language;
use super::reasons;

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
    SEARCH "Search" "検索"
    TRANSFER "Import and export" "取り込みと書き出し"
    USERS "Users" "ユーザー"
    DUPLICATES "Duplicates" "重複"
    HEALTH "Health" "稼働状況"
    USERNAME "User name" "ユーザー名"
    USERNAME_HINT "At most 128 bytes. It does not begin with static:." "128 バイトまで。static: で始まる名前は使えません。"
    PASSWORD "Password" "パスワード"
    ROLES "Roles" "ロール"
    ROLES_HINT "One per line, at most 64." "1 行に 1 つ、64 個まで。"
    USERS_TOTAL "{count} in total" "合計 {count} 人"
    MORE_USERS "Only the first {count} are shown; the command user list shows all." "最初の {count} 人のみ表示しています。すべては user list コマンドで確認できます。"
    NO_USERS "No user has been added." "ユーザーはいません。"
    ADD_USER "Add a user" "ユーザーを追加"
    STATE "State" "状態"
    PASSWORD_FORM "Stored password" "保存形式"
    ACTIONS "Actions" "操作"
    SET_PASSWORD "Set the password" "パスワードを変更"
    SET_ROLES "Set the roles" "ロールを変更"
    ENABLED "enabled" "有効"
    DISABLED "disabled" "無効"
    ENABLE "Enable" "有効にする"
    DISABLE "Disable" "無効にする"
    UNREADABLE_ROLES "cannot be read" "読み取れません"
    PLAIN_PASSWORD "plain text" "平文"
    NO_LOGIN "no login possible" "ログイン不可"
    CALENDARS "Calendar feeds" "カレンダーフィード"
    CALENDARS_OF "Calendar feeds of {name}" "{name} のカレンダーフィード"
    NO_CALENDARS "This user has no calendar feed." "このユーザーのカレンダーフィードはありません。"
    LABEL "Label or ID" "名前または ID"
    FILTER "Filter" "絞り込み"
    CREATED_AT "Created" "作成日時"
    ALL_STREAMS "all streams" "すべての配信"
    IMPORT "Import" "取り込み"
    FILE "File" "ファイル"
    FILE_HINT "Drop a CSV, JSON or NDJSON file here, or choose one. UTF-8, UTF-16 and Shift_JIS are accepted. A stream that is stored already is updated." "CSV・JSON・NDJSON ファイルをここにドロップするか、選択してください。UTF-8、UTF-16、Shift_JIS に対応しています。登録済みの配信は更新されます。"
    PROGRESS "Progress" "進み具合"
    CANCEL_IMPORT "Stop the import" "取り込みを中止"
    REJECTS "Rejected rows" "取り込めなかった行"
    REJECTS_HINT "Correct the rows here and send them again. The others are stored." "ここで修正して再送信できます。ほかの行は保存されています。"
    SEND_AGAIN "Send corrected rows" "修正した行を送信"
    EXPORT "Export" "書き出し"
    EXPORT_HINT "All streams, by start." "すべての配信を開始順に書き出します。"
    EXPORT_CSV "CSV" "CSV 形式"
    EXPORT_SPREADSHEET "CSV for spreadsheets, without formulas" "表計算ソフト用 CSV（数式なし）"
    EXPORT_JSON "JSON" "JSON 形式"
    EXPORT_NDJSON "NDJSON, one stream per line" "NDJSON 形式（1 行 1 配信）"
    READY "Ready." "稼働中です。"
    NOT_READY "Not ready." "利用できません。"
    STORE "Store" "保存先"
    HOLODULES "Streams" "配信"
    UNDATED "Streams shown on no day" "どの日にも表示されない配信"
    SUBSCRIBERS "Connected gateways" "接続中のゲートウェイ"
    POLL_AGE "Last check for changes" "変更の最終確認"
    HASHING "Password checks, running / waiting" "パスワード照合（実行中 / 待ち）"
    DRAINING "Draining processes" "終了処理中のプロセス"
    VERSION "Version" "バージョン"
    DUPLICATES_HINT "Several documents with one video ID prevent the unique index. Here, each is deleted alone; one document of the video must remain." "同じ動画 ID の文書が複数あると、一意インデックスを作成できません。ここでは文書を 1 件ずつ削除できます。その動画の文書は 1 件以上残ります。"
    DELETE_DOCUMENT "Delete this document" "この文書を削除"
    UNREADABLE_DOCUMENT "This document cannot be read." "この文書は読み取れません。"
    NO_DUPLICATES "There are none." "重複はありません。"
    DOCUMENTS "{count} documents" "文書 {count} 件"
    MORE_DUPLICATES "There are more." "ほかにもあります。"
    SEARCH_TEXT "Text in title, name or description" "タイトル・配信者名・説明に含まれる文字"
    STREAMER "Streamer: code or name" "配信者（コードまたは名前）"
    FROM_DAY "From" "開始日"
    TO_DAY "To" "終了日"
    WRONG_TEXT "At most {count} characters, without control characters." "制御文字を除く {count} 文字までで入力してください。"
    TOO_MANY_DAYS "At most {count} days." "期間は {count} 日以内にしてください。"
    TOO_MANY_DAYS_FOR_TEXT "With a text, at most {count} days." "文字で検索するときの期間は {count} 日以内にしてください。"
    DAYS_REVERSED "The first day must not be after the last." "開始日は終了日以前にしてください。"
    ORDER "Order" "並び順"
    LATEST_FIRST "Latest first" "新しい順"
    EARLIEST_FIRST "Earliest first" "古い順"
    NOTHING_FOUND "Nothing was found." "見つかりませんでした。"
    NEXT_PAGE "Next page" "次のページ"
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
    NOT_A_LINK "Not shown as a link, because it is not https or has a user name:" "https ではないか、ユーザー名を含むため、リンクにしていません："
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
    KEY_HINT "Code, date and time, such as HL0503_20201209_230000. A new stream with a video ID needs none; a stored key can be replaced, not removed." "コード・日付・時刻（例：HL0503_20201209_230000）。動画 ID があれば、追加するときは空でもかまいません。保存済みのキーは変更できますが、削除できません。"
    CODE "Streamer's code" "配信者コード"
    CODE_HINT "Such as HL0503. It may be empty." "例：HL0503。空でもかまいません。"
    STARTS "Start, Japan time" "開始時刻（日本時間）"
    STARTS_HINT "Such as 2020-12-09 23:00:00." "例：2020-12-09 23:00:00"
    NAME "Streamer's name" "配信者名"
    STREAM_TITLE "Title" "タイトル"
    URL "Address" "アドレス"
    URL_HINT "It begins with https://." "https:// で始まるアドレス"
    DESCRIPTION "Description" "説明"
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
    SEVERAL_DOCUMENTS "{count} documents have this video ID. All of them are deleted, and cannot be restored. To delete one of them, use the view Duplicates." "この動画 ID の文書が {count} 件あります。すべて削除され、元に戻せません。1 件だけを削除するには「重複」画面を使ってください。"
    DELETE_DUPLICATE "Only the document {id} is deleted. It cannot be restored." "文書 {id} のみを削除します。元に戻せません。"
    DUPLICATE_DELETED "Deleted the document {id}." "文書 {id} を削除しました。"
    IN_USE "Another stream has it already." "すでに別の配信が使っています。"
    CHANGED_MEANWHILE "Another person has changed this stream in the meantime: {fields}. Check these fields, then save again." "編集中にほかの人がこの配信を変更しました：{fields}。これらの項目を確認してから、もう一度保存してください。"
    CHANGED_ELSEWHERE "Another person has changed parts of this stream that are not shown here. Save again to keep both changes." "編集中に、ほかの人がここに表示されていない部分を変更しました。もう一度保存すると、両方の変更が残ります。"
    NEW_VALUE "This is the value of the other person." "ほかの人が保存した値です。"
    OTHER_VALUE "The other person has saved: {value}" "ほかの人が保存した値：{value}"
    TAKE_VALUE "Use it" "この値を使う"
    KEY_REMAINS "A stored key can be replaced, not removed." "保存済みのキーは変更できますが、削除できません。"
    KEY_FOLLOWS "The key has been adapted to the start." "開始時刻に合わせてキーを変更しました。"
    NOTHING_EDITED "Nothing was changed." "変更はありません。"
    SHOW_DAY "Show its day" "その日を表示"
    SAME_IDENTIFIER "Several documents have this identifier, so none of them can be edited here. See Duplicates." "同じ識別子の文書が複数あるため、ここでは編集できません。「重複」を確認してください。"
    NOT_DELETED "Another person has changed it in the meantime, so it was not deleted." "ほかの人が変更したため、削除していません。"
    ADDED_MEANWHILE "Not restored, because another person has added it again: {title}" "ほかの人がすでに追加したため、元に戻していません：{title}"
    TOO_MANY_UNDOS "Too many deletions can still be undone: dismiss some of them first, otherwise this one cannot be undone." "元に戻せる削除が多すぎます。お知らせをいくつか閉じてください。このまま削除すると、元に戻せません。"
    DISCARD_FORM "What you entered in this form has not been saved." "このフォームに入力した内容は保存されていません。"
    DISCARD_REJECTS "The corrected rows have not been sent." "修正した行はまだ送信されていません。"
    NOT_SENT "The new file was not imported. Send the corrected rows first." "新しいファイルは取り込んでいません。先に修正した行を送信してください。"
    DISCARD_QUESTION "Discard your changes?" "変更を破棄しますか？"
    DISCARD_LABEL "Discard" "破棄"
    DELETE_QUESTION "Delete for good?" "完全に削除しますか？"
    DELETE_LABEL "Delete" "削除"
    DISABLE_QUESTION "Disable this user?" "このユーザーを無効にしますか？"
    DISABLE_LABEL "Disable" "無効にする"
    DISABLE_USER "{name} will not be able to log in. The calendar feeds of this user are deleted for good, also if the user is enabled again." "{name} はログインできなくなります。このユーザーのカレンダーフィードは完全に削除され、再び有効にしても元に戻りません。"
    ONE_FILE "Only one file at a time can be imported. Nothing was imported." "一度に取り込めるファイルは 1 つです。何も取り込んでいません。"
    CANCELLED "it was cancelled." "取り込みを取り消しました。"
    GONE "It has been deleted in the meantime." "すでに削除されています。"
    UNREACHABLE "The service does not respond. Try again." "サービスに接続できません。もう一度お試しください。"
    USER_ADDED "Added the user {name}." "ユーザー {name} を追加しました。"
    PASSWORD_SET "The password of {name} has been set." "{name} のパスワードを変更しました。"
    ROLES_SET "The roles of {name} have been set." "{name} のロールを変更しました。"
    USER_ENABLED "{name} can log in again." "{name} はログインできるようになりました。"
    USER_DISABLED "{name} cannot log in any longer." "{name} はログインできなくなりました。"
    DELETE_USER "The user {name} and all tokens of this user become invalid. The calendar feeds of this user are deleted for good." "ユーザー {name} と、そのすべてのトークンが無効になります。このユーザーのカレンダーフィードは完全に削除されます。"
    USER_DELETED "Deleted the user {name}." "ユーザー {name} を削除しました。"
    DELETE_FEED "Calendar programs can no longer read the feed {label}." "カレンダーからフィード {label} を読み取れなくなります。"
    FEED_DELETED "Deleted the calendar feed {label}." "カレンダーフィード {label} を削除しました。"
    READING "Reading {file}." "{file} を読み込んでいます。"
    UNKNOWN_FILE "The name of the file must end with .csv, .json, .ndjson or .jsonl." "ファイル名の末尾は .csv、.json、.ndjson、.jsonl のいずれかにしてください。"
    NOT_TEXT "The file is neither UTF-8 nor UTF-16 nor Shift_JIS." "UTF-8、UTF-16、Shift_JIS のいずれでもありません。"
    NO_ROWS "The file has no rows." "ファイルに行がありません。"
    NO_ARRAY "The file has no array of streams: it must be a JSON array, or an object with an array \"holodules\"." "配信の配列がありません。JSON の配列、または配列 holodules を持つオブジェクトにしてください。"
    AFTER_ARRAY "The file is not one JSON array: nothing may follow the array. Divide several arrays into several files." "ファイル全体が一つの JSON 配列になっていません。配列の後ろには何も置けません。複数の配列は別々のファイルに分けてください。"
    OF_ROWS "{done} of {all} rows" "{all} 行中 {done} 行"
    IMPORTED "{read} rows read: {inserted} added, {updated} updated, {unchanged} unchanged, {rejected} rejected." "{read} 行を読み込みました：追加 {inserted}、更新 {updated}、変更なし {unchanged}、拒否 {rejected}。"
    STOPPED "Stopped after {read} rows, which are stored except for rejected ones ({inserted} added, {updated} updated, {unchanged} unchanged): {reason}" "{read} 行で中断しました。ここまでの行は、拒否された行を除いて保存されています（追加 {inserted}、更新 {updated}、変更なし {unchanged}）：{reason}"
    ROW "Row" "行"
    REASON "Reason" "理由"
    CONTENT "Content" "内容"
    CELL "{column}, row {row}" "{column}、{row} 行目"
    MORE_REJECTS "{count} more rejected rows follow after these." "このほかに、取り込めなかった行が {count} 行あります。"
    LATER_ROW "superseded by row {row}" "{row} 行目と同じ配信のため不採用"
    REFUSED "Refused: {reason}" "受け付けられませんでした：{reason}"
}

/// The texts of the scripts as JSON, by name, and the translations of the service's messages.
pub(super) fn for_scripts(language: Language) -> String {
    let mut texts: Map<String, Value> =
        SCRIPTS.iter().map(|(name, text)| ((*name).to_owned(), text.of(language).into())).collect();
    texts.insert("reasons".to_owned(), reasons::for_scripts(language));
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
            include_str!("calendars.rs"),
            include_str!("duplicates.rs"),
            include_str!("entries.rs"),
            include_str!("forms.rs"),
            include_str!("health.rs"),
            include_str!("layout.rs"),
            include_str!("record_form.rs"),
            include_str!("search.rs"),
            include_str!("transfer.rs"),
            include_str!("users.rs"),
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
        for used in scripts.split("translate(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(SCRIPTS.iter().any(|(name, _)| *name == used), "{used} is not defined");
        }
    }

    #[test]
    fn values_are_filled_in_once() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "2")]), "{b} and 2");
        assert_eq!(fill("{none}{", &[]), "{");
    }
}
