//! The service's reasons in Japanese. The API has them in English only; a reason that is not here is shown as it is.

use serde_json::{Value, json};

use super::language::Language;

/// English, with `{}` for any text, and Japanese, with the same texts in their order. Of several that match, the first
/// is used.
#[rustfmt::skip]
const REASONS: &[(&str, &str)] = &[
    ("must not be empty where the key is empty too", "キーが空の場合は入力してください。"),
    ("must be empty or 11 characters of A-Z, a-z, 0-9, _ and -", "空にするか、英数字と _ - の 11 文字にしてください。"),
    ("must be empty or <code>_<yyyymmdd>_<hhmmss>", "空にするか、<コード>_<年月日>_<時分秒> の形にしてください。"),
    ("must be a streamer's code, such as HL0503", "HL0503 のような配信者コードにしてください。"),
    ("is missing", "入力してください。"),
    ("must be a string", "文字列にしてください。"),
    ("must be a day of the calendar and a time of the day", "実在する日付と時刻にしてください。"),
    ("must not be longer than {} bytes of JSON", "JSON で {} バイトまでにしてください。"),
    ("must not be longer than {} bytes", "{} バイトまでにしてください。"),
    ("must not contain control characters", "制御文字は使えません。"),
    ("must not have a name with the character U+0000", "名前に文字 U+0000 は使えません。"),
    ("and similar fields have too many JSON values", "この項目と類似の項目の JSON の値が多すぎます。"),
    ("must not be empty", "入力してください。"),
    ("must be empty or begin with http:// or https:// and a host, without spaces", "空にするか、http:// または https:// とホスト名で始まる、空白のないアドレスにしてください。"),
    ("is not JSON: there is an error in line {}, column {}", "JSON として正しくありません（{} 行 {} 文字目）。"),
    ("is not a JSON object", "JSON のオブジェクトではありません。"),
    ("has the unknown field {}", "知らない項目 {} があります。"),
    ("has a field twice", "同じ項目が 2 回あります。"),
    ("is longer than {} bytes", "{} バイトを超えています。"),
    ("the array is not closed: the file ends early", "配列が閉じられていません。ファイルが途中で終わっています。"),
    ("has {} cells where the header has {}", "セルが {} 個ありますが、見出しは {} 個です。"),
    ("a quote is not closed, or the row is longer than {} bytes", "引用符が閉じられていないか、行が {} バイトを超えています。"),
    ("is not UTF-8", "UTF-8 ではありません。"),
    ("has text after a closing quote", "閉じ引用符の後に文字があります。"),
    ("has a carriage return outside quotes", "引用符の外に改行文字（CR）があります。"),
    ("has a line feed outside quotes", "引用符の外に改行文字（LF）があります。"),
    ("superseded by row {}", "{} 行目と同じ配信のため不採用"),
    ("the header is missing: the file is empty", "見出しがありません。ファイルが空です。"),
    ("the header is not CSV in UTF-8", "見出しが UTF-8 の CSV ではありません。"),
    ("the header has the column {} twice", "見出しに列 {} が 2 回あります。"),
    ("the header has no column {}", "見出しに列 {} がありません。"),
    ("the header has an unknown column {}; the known ones are {}", "見出しに知らない列 {} があります。使える列：{}"),
    ("the header has unknown columns {}; the known ones are {}", "見出しに知らない列 {} があります。使える列：{}"),
    ("must be a JSON array, or an object with an array \"holodules\"", "JSON の配列か、配列 \"holodules\" を持つオブジェクトにしてください。"),
    ("must end after its JSON array: put each array into a file of its own", "JSON の配列の後に内容があります。配列ごとに別のファイルにしてください。"),
    ("ends before the object around its array does", "配列を囲むオブジェクトが閉じられていません。"),
    ("the upload has more than {} rows: send it in parts", "行が {} を超えています。分けて送信してください。"),
    ("the upload has too many JSON values: send it in parts", "JSON の値が多すぎます。分けて送信してください。"),
    ("the upload could not be read", "読み取れませんでした。"),
    ("too many uploads at once", "同時に取り込める数を超えています。しばらくしてからもう一度お試しください。"),
    ("the content type must be {}", "Content-Type は {} にしてください。"),
    ("a write needs a content type such as application/json", "書き込みには application/json などの Content-Type が必要です。"),
    ("the body must be {}", "送信内容の形式が正しくありません（{}）。"),
    ("the body is over {} bytes", "送信内容が {} バイトを超えています。"),
    ("the body is incomplete", "送信が途中で終わりました。"),
    ("the body was not received in time", "時間内に受信できませんでした。"),
    ("the body is not JSON", "送信内容が JSON ではありません。"),
    ("the identifier in the path differs from the one in the body, {}", "アドレスの識別子が、内容の識別子 {} と異なります。"),
    ("no such holodule", "この配信はありません。"),
    ("the stored holodule does not meet If-Match or If-None-Match", "ほかの人が保存したため、条件を満たしません。"),
    ("{} is neither * nor at most {} entity tags", "{} は * か、{} 個までのエンティティタグにしてください。"),
    ("a username must not be empty", "ユーザー名を入力してください。"),
    ("a username must not be longer than {} bytes", "ユーザー名は {} バイトまでです。"),
    ("a username must not contain control characters", "ユーザー名に制御文字は使えません。"),
    ("a username must not begin with \"static:\"", "ユーザー名を static: で始めることはできません。"),
    ("a username must not be . or ..", "ユーザー名を . や .. にすることはできません。"),
    ("the name is taken", "このユーザー名はすでに使われています。"),
    ("no such user", "このユーザーはいません。"),
    ("a password must not be empty", "パスワードを入力してください。"),
    ("a password has at most {} bytes", "パスワードは {} バイトまでです。"),
    ("too many passwords are being checked", "パスワードの照合が混み合っています。しばらくしてからもう一度お試しください。"),
    ("the password could not be hashed", "パスワードを保存できませんでした。"),
    ("a role is 1 to {} printable ASCII characters, without space, \" and \\", "ロールは、空白と \" と \\ を除く ASCII 文字 1～{} 文字です。"),
    ("a user has at most {} roles", "ロールは 1 人 {} 個までです。"),
    ("the roles of a user have at most {} bytes, separated by spaces", "ロールは、空白で区切って合計 {} バイトまでです。"),
    ("the stored roles cannot be read, so the user has none; replace them", "保存されているロールを読み取れないため、このユーザーにはロールがありません。置き換えてください。"),
    ("no role to add or remove", "追加または削除するロールがありません。"),
    ("a role cannot be both added and removed", "同じロールを追加し、削除することはできません。"),
    ("the request could not be handled", "処理できませんでした。"),
    ("there is no such calendar feed", "このカレンダーフィードはありません。"),
    ("no such duplicate", "この文書はありません。"),
    ("no other document has this video_id", "この動画 ID の文書はほかにありません。"),
    ("the store is unavailable", "保存先に接続できません。"),
    ("the store does not respond", "保存先が応答しません。"),
    ("the store failed", "保存先でエラーが発生しました。"),
    ("the store cannot be used; see the log", "保存先を利用できません。ログを確認してください。"),
    ("the clock of the server is wrong", "サーバーの時計が正しくありません。"),
    ("too many searches are running", "検索が混み合っています。しばらくしてからもう一度お試しください。"),
    ("too many searches", "検索の回数が多すぎます。しばらくしてからもう一度お試しください。"),
    ("the search took too long; fewer days take less time", "検索に時間がかかりすぎました。期間を短くしてください。"),
    ("cross-site requests are not accepted", "ほかのサイトからの要求は受け付けません。"),
    ("the Origin differs from the Host", "Origin が Host と異なります。"),
    ("exactly one Host header is required", "Host ヘッダーは 1 つだけ必要です。"),
    ("the Host header is invalid", "Host ヘッダーが正しくありません。"),
    ("the Host \"{}\" is not a name of this service; admin.allowed_hosts lists them", "Host \"{}\" はこのサービスの名前ではありません。admin.allowed_hosts を確認してください。"),
    ("the day is not one of the calendar", "日付がカレンダーにありません。"),
    ("the month is not one of the calendar", "月がカレンダーにありません。"),
    ("the start is not a time as hhmmss", "開始時刻を hhmmss の形にしてください。"),
    ("the first day is not one of the calendar", "開始日がカレンダーにありません。"),
    ("the last day is not one of the calendar", "終了日がカレンダーにありません。"),
    ("the days are outside of the calendar", "期間がカレンダーの範囲を超えています。"),
    ("the cursor is not a value of next in a response", "続きの位置（cursor）が正しくありません。"),
    ("the cursor belongs to a query with other parameters: only limit may differ", "続きの位置（cursor）は別の検索のものです。"),
    ("the query has no user", "アドレスに user がありません。"),
    ("the query has no id", "アドレスに id がありません。"),
    ("the document cannot be read", "文書を読み取れません。"),
    ("no such file", "このファイルはありません。"),
    ("no such page", "このページはありません。"),
    ("the query is over {} bytes", "アドレスの検索条件が {} バイトを超えています。"),
    ("the name of a parameter has a % without two hexadecimal digits", "パラメーターの名前に、16 進数 2 桁のない % があります。"),
    ("the name of a parameter is not UTF-8", "パラメーターの名前が UTF-8 ではありません。"),
    ("{} has a % without two hexadecimal digits", "{} に、16 進数 2 桁のない % があります。"),
    ("{} is not UTF-8", "{} が UTF-8 ではありません。"),
    ("{} must not be repeated", "{} は 1 回だけ指定できます。"),
    ("{} has more than {} values", "{} の値が {} 個を超えています。"),
    ("there is no parameter {}", "パラメーター {} はありません。"),
    ("there is no {} {}", "{} {} はありません。"),
];

/// The translations for the scripts: none in English.
pub(super) fn for_scripts(language: Language) -> Value {
    match language {
        Language::English => json!([]),
        Language::Japanese => json!(REASONS),
    }
}

/// A reason in `language`; in English if it has no translation.
pub(super) fn translate(language: Language, reason: &str) -> String {
    let found = REASONS.iter().find_map(|(english, japanese)| Some((texts_of(english, reason)?, japanese)));
    match (language, found) {
        (Language::Japanese, Some((texts, japanese))) => {
            let mut parts = japanese.split("{}");
            let first = parts.next().unwrap_or_default().to_owned();
            parts.zip(texts).fold(first, |translated, (part, text)| translated + text + part)
        }
        _ => reason.to_owned(),
    }
}

/// The texts at the places of `{}` in `pattern`, each not empty; `None` if the reason is another one.
fn texts_of<'a>(pattern: &str, reason: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}").peekable();
    let mut rest = reason.strip_prefix(parts.next()?)?;
    let mut texts = Vec::new();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let at = if is_last { rest.len().checked_sub(part.len())? } else { rest.find(part)? };
        let (text, after) = rest.split_at_checked(at)?;
        rest = after.strip_prefix(part)?;
        texts.push(Some(text).filter(|text| !text.is_empty())?);
    }
    rest.is_empty().then_some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources with reasons that the page can show, and what precedes the texts of each.
    const SOURCES: [(&str, &[&str], &str); 27] = [
        (include_str!("../handler/page/calendar.rs"), &["bad_request("], ""),
        (include_str!("../handler/page/record.rs"), &["bad_request(", "not_found(", "HttpError::new("], ""),
        (include_str!("../handler/page/request.rs"), &["not_found("], ""),
        (include_str!("../handler/page/search.rs"), &["bad_request(", "day("], ""),
        (include_str!("../handler/page/state.rs"), &["StoreError::", "Some("], ""),
        (include_str!("../handler/parameters.rs"), &["format!("], ""),
        (include_str!("../handler/lists/cursor.rs"), &["#[error("], "the cursor "),
        (include_str!("../handler/lists/search.rs"), &["too_many_requests(", "unavailable(", "too_slow ="], ""),
        (include_str!("../handler/mod.rs"), &["unavailable(", "HttpError::new("], ""),
        (include_str!("../handler/body.rs"), &["HttpError::new(", "bad_request(", "unsupported("], ""),
        (include_str!("../handler/csrf.rs"), &["HttpError::new(", "bad_request(", "unsupported(", "format!("], ""),
        (include_str!("../handler/precondition.rs"), &["HttpError::new(", "bad_request("], ""),
        (include_str!("../handler/users.rs"), &["HttpError::new(", "bad_request(", "not_found("], ""),
        (include_str!("../handler/roles.rs"), &["bad_request("], ""),
        (include_str!("../handler/page/users.rs"), &["bad_request("], ""),
        (include_str!("../handler/calendar/read.rs"), &["fn no_such_feed"], ""),
        (include_str!("../handler/holodules/duplicates.rs"), &["not_found(", "HttpError::new("], ""),
        (include_str!("../handler/holodules/edit.rs"), &["unsupported(", "bad_request(", "not_found("], ""),
        (include_str!("../handler/holodules/upload.rs"), &["unsupported(", "unavailable(", "HttpError::new("], ""),
        (include_str!("../model/valid.rs"), &["Invalid::new("], ""),
        (include_str!("../model/identifier.rs"), &["Invalid::new("], ""),
        (include_str!("../model/roles.rs"), &["#[error("], ""),
        (include_str!("../model/user.rs"), &["#[error("], ""),
        (include_str!("../password/mod.rs"), &["#[error("], ""),
        (include_str!("../import/csv.rs"), &["Header("], "the header "),
        (include_str!("../import/json.rs"), &["Err(", "return ", "format!("], ""),
        (include_str!("../import/records.rs"), &["Err("], ""),
    ];

    /// The first text with a space after each place of `trigger`, with a sample at each of its values.
    fn reasons<'a>(source: &'a str, trigger: &'a str) -> impl Iterator<Item = String> + 'a {
        let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        source.split(trigger).skip(1).filter_map(|rest| {
            let statement = rest.split(";\n").next().unwrap_or_default();
            let statement = statement.replace("\\\\", "\u{2}").replace("\\\"", "\u{1}");
            let text = statement.split('"').skip(1).step_by(2).take(2).find(|text| text.contains(' '))?;
            let text = text.replace('\u{1}', "\"").replace('\u{2}', "\\");
            let mut parts = text.split('{');
            let mut sample = parts.next().unwrap_or_default().to_owned();
            for (name, after) in parts.filter_map(|part| part.split_once('}')) {
                sample += match name {
                    "why" => "is not UTF-8",
                    "RESERVED_PREFIX" => "static:",
                    _ => "7",
                };
                sample += after;
            }
            // The field is shown apart from the reason.
            let sample = sample.strip_prefix("7: ").unwrap_or(&sample).to_owned();
            Some(sample)
        })
    }

    #[test]
    fn every_reason_of_the_code_is_translated() {
        let mut count = 0;
        for (source, triggers, before) in SOURCES {
            for trigger in triggers {
                for reason in reasons(source, trigger) {
                    count += 1;
                    let reason = format!("{before}{reason}");
                    let japanese = translate(Language::Japanese, &reason);
                    assert!(japanese != reason && !japanese.contains("{}"), "{reason}");
                    assert_eq!(translate(Language::English, &reason), reason);
                }
            }
        }
        assert!(count > 80, "only {count} reasons were found");
    }

    #[test]
    fn the_texts_of_a_reason_are_in_its_translation() {
        let japanese = |reason| translate(Language::Japanese, reason);
        assert_eq!(japanese("has 3 cells where the header has 7"), "セルが 3 個ありますが、見出しは 7 個です。");
        assert!(
            japanese("the header has an unknown column \"a\"; the known ones are key and code")
                .ends_with("key and code")
        );
        assert!(japanese("must not be longer than 9 bytes of JSON").starts_with("JSON で 9 "));
        assert_eq!(japanese("another reason"), "another reason");
        assert_eq!(japanese(" is not UTF-8"), " is not UTF-8", "a text is not empty");
    }

    #[test]
    fn a_translation_has_the_places_of_its_reason() {
        for (english, japanese) in REASONS {
            assert_eq!(english.matches("{}").count(), japanese.matches("{}").count(), "{english}");
            assert!(!japanese.is_ascii(), "{english}");
        }
    }
}
