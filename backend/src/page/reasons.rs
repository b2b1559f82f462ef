//! The service's reasons in Japanese. The API has them in English only; a reason that is not here is shown as it is.

use serde_json::{Value, json};

use super::language::Language;

/// English, with `{}` for a number, and Japanese, with the same numbers in their order.
const REASONS: [(&str, &str); 20] = [
    ("must not be empty where the key is empty too", "キーが空の場合は入力してください。"),
    ("must be empty or 11 characters of A-Z, a-z, 0-9, _ and -", "空にするか、英数字と _ - の 11 文字にしてください。"),
    ("must be empty or <code>_<yyyymmdd>_<hhmmss>", "空にするか、<コード>_<年月日>_<時分秒> の形にしてください。"),
    ("must be a streamer's code, such as HL0503", "HL0503 のような配信者コードにしてください。"),
    ("is missing", "入力してください。"),
    ("must be a string", "文字列にしてください。"),
    ("must be a day of the calendar and a time of the day", "実在する日付と時刻にしてください。"),
    ("must not be longer than {} bytes", "{} バイトまでにしてください。"),
    ("must not contain control characters", "制御文字は使えません。"),
    (
        "must be empty or begin with http:// or https:// and a host, without spaces",
        "空にするか、http:// または https:// とホスト名で始まる、空白のないアドレスにしてください。",
    ),
    ("has {} cells where the header has {}", "セルが {} 個ありますが、見出しは {} 個です。"),
    ("a username must not be empty", "ユーザー名を入力してください。"),
    ("a username must not be longer than {} bytes", "ユーザー名は {} バイトまでです。"),
    ("a username must not contain control characters", "ユーザー名に制御文字は使えません。"),
    ("a username must not begin with \"static:\"", "ユーザー名を static: で始めることはできません。"),
    ("the name is taken", "このユーザー名はすでに使われています。"),
    ("a password must not be empty", "パスワードを入力してください。"),
    (
        "a role is 1 to {} printable ASCII characters, without space, \" and \\",
        "ロールは、空白と \" と \\ を除く ASCII 文字 1～{} 文字です。",
    ),
    ("a user has at most {} roles", "ロールは 1 人 {} 個までです。"),
    ("the store is unavailable", "保存先に接続できません。"),
];

/// The translations for the scripts: none in English.
pub(super) fn for_scripts(language: Language) -> Value {
    match language {
        Language::English => json!([]),
        Language::Japanese => json!(REASONS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Holodule, Roles, Username, ValidHolodule};

    fn is_translated(reason: &str) -> bool {
        REASONS.iter().any(|(english, _)| {
            let mut rest = reason;
            english.split("{}").enumerate().all(|(position, part)| {
                if position > 0 {
                    rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                }
                rest.strip_prefix(part).map(|after| rest = after).is_some()
            }) && rest.is_empty()
        })
    }

    #[test]
    fn the_reasons_of_the_model_are_translated() {
        let some = |text: &str| Some(text.to_owned());
        let good =
            || Holodule { video_id: some("dQw4w9WgXc_"), datetime: some("20201209 230000"), ..Holodule::default() };
        for bad in [
            Holodule { video_id: None, ..good() },
            Holodule { video_id: some("short"), ..good() },
            Holodule { key: some("x"), ..good() },
            Holodule { code: some("x"), ..good() },
            Holodule { datetime: None, ..good() },
            Holodule { datetime: some("x"), ..good() },
            Holodule { name: some("a\nb"), ..good() },
            Holodule { title: some(&"x".repeat(2000)), ..good() },
            Holodule { url: some("x"), ..good() },
        ] {
            let invalid = ValidHolodule::new(bad).unwrap_err();
            assert!(is_translated(&invalid.reason), "{invalid}");
        }
        for bad in ["", "a\nb", "static:x", &"x".repeat(129)] {
            assert!(is_translated(&Username::parse(bad).unwrap_err().to_string()), "{bad}");
        }
        for bad in [vec!["a b".to_owned()], (0..65).map(|n| n.to_string()).collect()] {
            assert!(is_translated(&Roles::parse(bad).unwrap_err().to_string()));
        }
    }

    #[test]
    fn a_translation_has_the_numbers_of_its_reason() {
        for (english, japanese) in REASONS {
            assert_eq!(english.matches("{}").count(), japanese.matches("{}").count(), "{english}");
            assert!(!japanese.is_ascii(), "{english}");
        }
    }
}
