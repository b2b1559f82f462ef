//! `[token]`, `[[key]]` and `[[static_token]]`.

use std::collections::BTreeSet;

use super::section::Section;
use crate::clock::unix_now;
use crate::route::RouteTable;
use crate::scope::Scopes;
use crate::token::{Digest, Key, Keys, NotAKey, NotStaticTokens, Routes, Settings, StaticToken, StaticTokens};
use holodule_settings::{Source, shown, shown_name};

/// The value in `routes` of a static token that is valid for every route.
pub const EVERY_ROUTE: &str = "*";

/// Notes about retired keys, and static tokens that have expired or never expire.
pub(super) fn notes(keys: &Keys, static_tokens: &StaticTokens) -> Vec<String> {
    let mut notes = Vec::new();
    let now = unix_now();
    for (index, key) in keys.iter().enumerate().filter(|(_, key)| !key.is_in_force(now)) {
        notes.push(format!("key[{index}] {} is retired", shown_name(key.kid().unwrap_or_default())));
    }
    for token in static_tokens.iter() {
        match token.expires_at() {
            None => notes.push(format!("the static token {} never expires", shown_name(token.name()))),
            Some(_) if token.is_expired(now) => {
                notes.push(format!("the static token {} has expired", shown_name(token.name())));
            }
            Some(_) => {}
        }
    }
    notes
}

fn read_settings(source: &mut Source) -> Settings {
    let mut seconds = |key, default: u32, range| {
        u32::try_from(source.whole_seconds(key, u64::from(default), range)).unwrap_or(default)
    };
    let settings = Settings {
        lifetime: seconds("token.lifetime", 300, 1..=86_400),
        leeway: seconds("token.leeway", 0, 0..=300),
        max_lifetime: seconds("token.max_lifetime", 3600, 1..=86_400),
    };
    let Settings { lifetime, max_lifetime, .. } = settings;
    if max_lifetime < lifetime {
        source.conflict("token.max_lifetime", format!("{max_lifetime} is below token.lifetime, which is {lifetime}"));
    }
    settings
}

/// Reads the keys, with the settings of issued tokens.
pub(super) fn read_keys(source: &mut Source) -> Option<Keys> {
    let before = source.problems();
    let settings = read_settings(source);
    let secret = source.secret("jwt_secret_key");
    let sections = Section::list(source, "key");
    let has_both = secret.is_some() && !sections.is_empty();
    let is_missing = secret.is_none() && sections.is_empty() && source.problems() == before;
    let mut keys: Vec<Key> = Vec::new();
    if let Some(secret) = secret {
        let key = Key::unnamed(secret.expose().as_bytes());
        keys.extend(key.map_err(|error| source.problem("jwt_secret_key", error.to_string())).ok());
    }
    let mut kids = Vec::new();
    for section in sections {
        let (kid, key) = read_key(source, section);
        kids.extend(kid);
        keys.extend(key);
    }
    for kid in duplicates(&kids) {
        source.problem("key", format!("two keys have the kid {}", shown(kid)));
    }
    if has_both {
        source.conflict("jwt_secret_key", "is the short form of one [[key]]: one of the two can be given");
    }
    if is_missing {
        source.problem("jwt_secret_key", "is required: the secret that signs tokens, 32 bytes or more; or [[key]]");
    }
    if source.problems() > before || keys.is_empty() {
        return None;
    }
    let keys = Keys::new(keys, settings).map_err(|error| source.problem("key", error.to_string())).ok()?;
    if keys.signing(unix_now()).is_none() {
        source.problem("key", "every key is retired, so no token could be signed or verified");
    }
    Some(keys)
}

/// Reads the kid and the key; `None` for one that is invalid.
fn read_key(source: &mut Source, mut section: Section) -> (Option<String>, Option<Key>) {
    let kid = section.required(source, "kid", "the name that tokens call the key by");
    let secret = section.secret(source, "secret");
    let retire_at = section.moment(source, "retire_at");
    let without_kid = section.flag(source, "without_kid");
    // Checked separately, so that an invalid one does not hide problems of the other.
    let kid = kid.filter(|kid| is_valid(source, &section, Key::check_kid(kid)));
    let secret = secret.filter(|secret| is_valid(source, &section, Key::check_secret(secret.expose().as_bytes())));
    section.finish(source);
    let key = kid.as_ref().zip(secret).and_then(|(kid, secret)| Key::named(kid, secret.expose().as_bytes()).ok());
    (kid, key.map(|key| key.retire_at(retire_at).without_kid(without_kid)))
}

fn is_valid(source: &mut Source, section: &Section, checked: Result<(), NotAKey>) -> bool {
    let result = checked.map_err(|error| {
        let field = match error {
            NotAKey::Kid => "kid",
            NotAKey::SecretTooShort(_) => "secret",
        };
        section.problem(source, field, error.to_string());
    });
    result.is_ok()
}

/// The values that appear more than once in `texts`, each once.
fn duplicates(texts: &[String]) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    let again: BTreeSet<_> = texts.iter().filter(|text| !seen.insert(*text)).collect();
    again.into_iter().collect()
}

/// Reads the static tokens, and checks the routes they name against `routes`.
pub(super) fn read_static_tokens(source: &mut Source, routes: Option<&RouteTable>) -> Option<StaticTokens> {
    let sections = Section::list(source, "static_token");
    let mut names = Vec::new();
    let mut tokens = Vec::new();
    let before = source.problems();
    for section in sections {
        let (name, token) = read_static_token(source, section, routes);
        names.extend(name);
        tokens.push(token);
    }
    for name in duplicates(&names) {
        source.problem("static_token", format!("two static tokens have the name {}", shown(name)));
    }
    if source.problems() > before {
        return None;
    }
    let tokens = StaticTokens::new(tokens.into_iter().collect::<Option<_>>()?);
    let reason = |error| match error {
        NotStaticTokens::SameDigest(one, other) => {
            format!("the static tokens {} and {} have the same sha256", shown_name(&one), shown_name(&other))
        }
        other => other.to_string(),
    };
    tokens.map_err(|error| source.problem("static_token", reason(error))).ok()
}

/// Reads the name and the token; `None` for one that is invalid.
fn read_static_token(
    source: &mut Source,
    mut section: Section,
    table: Option<&RouteTable>,
) -> (Option<String>, Option<StaticToken>) {
    let name = section.required(source, "name", "what logs call its holder");
    let name = name.filter(|name| {
        StaticToken::check_name(name).map_err(|error| section.problem(source, "name", error.to_string())).is_ok()
    });
    let sha256 = section.required(source, "sha256", "the SHA-256 of the token in hexadecimal");
    let sha256 = sha256.and_then(|text| {
        text.parse::<Digest>().map_err(|error| section.problem(source, "sha256", error.to_string())).ok()
    });
    let names = section.texts(source, "routes", "the names of the routes it may use, or [\"*\"] for every one");
    let expires = section.moment(source, "expires");
    let scopes = Scopes::new(&section.optional_texts(source, "scopes"));
    let scopes = scopes.map_err(|error| section.problem(source, "scopes", error.to_string())).ok();
    for name in names.iter().flatten().filter(|name| *name != EVERY_ROUTE) {
        if table.is_some_and(|table| !table.iter().any(|route| *route.name == **name)) {
            section.problem(source, "routes", format!("{} is not a route", shown(name)));
        }
    }
    let routes = names.map(|names| match names.iter().any(|name| name == EVERY_ROUTE) {
        true => Routes::All,
        false => Routes::Named(names),
    });
    section.finish(source);
    let token = match (&name, sha256, routes, scopes) {
        (Some(name), Some(sha256), Some(routes), Some(scopes)) => {
            StaticToken::new(name, sha256, routes, expires).map(|token| token.with_scopes(scopes)).ok()
        }
        _ => None,
    };
    (name, token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problems;
    use crate::token::Presented;

    const SECRET: &str = "hush, thirty-two bytes or more of it";

    /// Reads `toml` and `environment` with one route called `holodules`.
    fn read_with(toml: &str, environment: &[(&str, &str)]) -> Result<(Keys, StaticTokens), Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut source = Source::read(Some(file.path()), environment);
        let default_routes = crate::route::default_routes();
        let routes = default_routes.iter().map(|route| std::sync::Arc::new(route.try_into().unwrap())).collect();
        let keys = read_keys(&mut source);
        let static_tokens = read_static_tokens(&mut source, Some(&RouteTable::new(routes, Vec::new())));
        source.finish_with(|| Some((keys?, static_tokens?))).map_err(|Problems(problems)| {
            problems
                .into_iter()
                .map(|problem| {
                    let reported = format!("{}: {}", problem.subject(), problem.reason);
                    assert!(!reported.contains("hush"), "{reported}");
                    reported
                })
                .collect()
        })
    }

    fn read(toml: &str) -> Result<(Keys, StaticTokens), Vec<String>> {
        read_with(toml, &[])
    }

    fn problems(toml: &str) -> Vec<String> {
        read(toml).err().unwrap()
    }

    #[test]
    fn named_keys_with_all_fields() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
        let toml = format!(
            "[[key]]\nkid = 'new'\nsecret_file = '{}'\n\
             [[key]]\nkid = 'old'\nsecret = '{SECRET}'\nwithout_kid = true\nretire_at = 2100-01-01T00:00:00+01:00\n\
             [[key]]\nkid = 'older'\nsecret = '{SECRET}'\nretire_at = '2000-01-01T00:00:00Z'\n",
            file.path().display()
        );
        let (keys, static_tokens) = read(&toml).unwrap();
        let shown: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
        let expected = [
            r#"Key { kid: Some("new"), without_kid: false, retire_at: None, .. }"#,
            r#"Key { kid: Some("old"), without_kid: true, retire_at: Some(4102441200), .. }"#,
            r#"Key { kid: Some("older"), without_kid: false, retire_at: Some(946684800), .. }"#,
        ];
        assert_eq!(shown, expected);
        assert_eq!(notes(&keys, &static_tokens), ["key[2] \"older\" is retired"]);
        // The trailing newline of the file is not part of the secret.
        let token = keys.issue("user01", "1", unix_now()).unwrap();
        let same = Keys::new(
            vec![Key::named("new", SECRET.as_bytes()).unwrap()],
            Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 },
        );
        assert!(same.unwrap().verify(&Presented::new(token.as_bytes()).unwrap(), unix_now()).is_ok());
    }

    #[test]
    fn the_short_form_is_one_key_without_a_name() {
        let (keys, _) = read(&format!("jwt_secret_key = '{SECRET}'")).unwrap();
        let shown: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
        assert_eq!(shown, ["Key { kid: None, without_kid: true, retire_at: None, .. }"]);
    }

    #[test]
    fn keys_can_come_from_the_environment() {
        let list = format!("[{{ kid = 'a', secret = '{SECRET}' }}]");
        assert!(read_with("", &[("KEY", &list)]).is_ok());
        for odd in ["hush", "[hush", "['hush']", "{ kid = 'hush' }"] {
            let problems = read_with("", &[("KEY", odd)]).unwrap_err();
            assert_eq!(problems, ["key, from KEY: must be a list of tables"], "{odd}");
        }
    }

    #[test]
    fn every_invalid_key_is_reported_with_its_index() {
        let reported = problems(&format!(
            "[[key]]\nsecret = 'hush'\nmore = 'hush'\n\
             [[key]]\nkid = '../hush'\nsecret = '{SECRET}'\n\
             [[key]]\nkid = 'c'\nsecret = 'hush'\n\
             [[key]]\nkid = 'd'\n\
             [[key]]\nkid = 'e'\nsecret = '{SECRET}'\nsecret_file = '{SECRET}'\n\
             [[key]]\nkid = 6\nsecret = 7\nwithout_kid = 'hush'\nretire_at = 'hush'\n\
             [[key]]\nkid = 'g'\nsecret = '{SECRET}'\nretire_at = 2026-01-01T00:00:00\n"
        ));
        let moment = "must be an RFC 3339 date-time with its offset, such as 2027-01-01T00:00:00Z";
        let expected = [
            "key[0].kid: is required: the name that tokens call the key by",
            "key[0].secret: has 4 bytes; at least 32 are required",
            "key[0].more: unknown key",
            "key[1].kid: must have 1 to 64 characters of A-Z a-z 0-9 - . _",
            "key[2].secret: has 4 bytes; at least 32 are required",
            "key[3].secret: or secret_file is required",
            "key[4].secret: and secret_file cannot both be given",
            "key[5].kid: must be a string, not 6",
            "key[5].secret: must be a string, in quotes",
            &format!("key[5].retire_at: {moment}"),
            "key[5].without_kid: must be true or false, not a string",
            &format!("key[6].retire_at: {moment}"),
        ];
        assert_eq!(reported, expected);
    }

    #[test]
    fn conflicting_keys_are_reported() {
        let key = |kid: &str, more: &str| format!("[[key]]\nkid = '{kid}'\nsecret = '{SECRET}'\n{more}\n");
        assert_eq!(problems(&(key("a", "") + &key("a", ""))), ["key: two keys have the kid \"a\""]);
        let retired = "retire_at = 2000-01-01T00:00:00Z";
        let reported = problems(&(key("a", retired) + &key("b", retired)));
        assert_eq!(reported, ["key: every key is retired, so no token could be signed or verified"]);
        let reported = problems(&format!("jwt_secret_key = '{SECRET}'\n{}", key("a", "")));
        assert_eq!(reported, ["jwt_secret_key: is the short form of one [[key]]: one of the two can be given"]);
    }

    #[test]
    fn one_error_of_a_key_hides_no_other() {
        let reported = problems(&format!(
            "jwt_secret_key = 'hush'\n[[key]]\nkid = '../hush'\nsecret = 'hush'\n\
             [[key]]\nkid = 'a'\nsecret = 'hush'\n[[key]]\nkid = 'a'\nsecret = '{SECRET}'\n"
        ));
        let expected = [
            "jwt_secret_key: has 4 bytes; at least 32 are required",
            "key[0].kid: must have 1 to 64 characters of A-Z a-z 0-9 - . _",
            "key[0].secret: has 4 bytes; at least 32 are required",
            "key[1].secret: has 4 bytes; at least 32 are required",
            "key: two keys have the kid \"a\"",
            "jwt_secret_key: is the short form of one [[key]]: one of the two can be given",
        ];
        assert_eq!(reported, expected);
    }

    #[test]
    fn max_lifetime_is_at_least_the_lifetime() {
        let reported = problems(&format!("jwt_secret_key = '{SECRET}'\n[token]\nlifetime = 7200\n"));
        assert_eq!(reported, ["token.max_lifetime: 3600 is below token.lifetime, which is 7200"]);
        assert!(read(&format!("jwt_secret_key = '{SECRET}'\n[token]\nlifetime = 7200\nmax_lifetime = 7200\n")).is_ok());
    }

    #[test]
    fn static_tokens_are_valid_for_their_routes() {
        let digest = Digest::of(b"word");
        let toml = format!(
            "jwt_secret_key = '{SECRET}'\n\
             [[static_token]]\nname = 'collector'\nsha256 = '{digest}'\nroutes = ['holodules']\n\
             expires = 2100-01-01T00:00:00Z\nscopes = ['write', 'read']\n\
             [[static_token]]\nname = 'monitor'\nsha256 = '{}'\nroutes = ['*']\n",
            Digest::of(b"another")
        );
        let (keys, tokens) = read(&toml).unwrap();
        let found = tokens.find(&Presented::new(b"word").unwrap()).unwrap();
        assert_eq!((found.name(), found.expires_at()), ("collector", Some(4_102_444_800)));
        assert!(found.may_use("holodules") && !found.may_use("*"));
        assert_eq!(found.scopes().as_str(), "read write");
        let other = tokens.find(&Presented::new(b"another").unwrap()).unwrap();
        assert!(other.may_use("anything") && other.scopes().is_empty());
        assert_eq!(notes(&keys, &tokens), ["the static token \"monitor\" never expires"]);
    }

    #[test]
    fn every_invalid_static_token_is_reported_with_its_index() {
        let digest = Digest::of(b"word");
        let reported = problems(&format!(
            "jwt_secret_key = '{SECRET}'\n\
             [[static_token]]\n\
             [[static_token]]\nname = 'static:a'\nsha256 = 'hush'\nroutes = 'holodules'\nscopes = ['hush hush']\n\
             [[static_token]]\nname = 'static:a'\nsha256 = '{digest}'\nroutes = ['holodule']\nexpires = 1\ntoken = 'hush'\n"
        ));
        let expected = [
            "static_token[0].name: is required: what logs call its holder",
            "static_token[0].sha256: is required: the SHA-256 of the token in hexadecimal",
            "static_token[0].routes: is required: the names of the routes it may use, or [\"*\"] for every one",
            "static_token[1].name: must have 1 to 64 characters of A-Z a-z 0-9 - . _",
            "static_token[1].sha256: must be a SHA-256: 64 hexadecimal digits",
            "static_token[1].routes: must be a list of strings, not a string",
            "static_token[1].scopes: must be printable ASCII characters without space, \" and \\",
            "static_token[2].name: must have 1 to 64 characters of A-Z a-z 0-9 - . _",
            "static_token[2].expires: must be an RFC 3339 date-time with its offset, such as 2027-01-01T00:00:00Z",
            "static_token[2].routes: \"holodule\" is not a route",
            "static_token[2].token: unknown key",
        ];
        assert_eq!(reported, expected);
        let token = format!("[[static_token]]\nname = 'a'\nsha256 = '{digest}'\nroutes = []\n");
        let reported = problems(&format!("jwt_secret_key = '{SECRET}'\n{token}{token}"));
        assert_eq!(reported, ["static_token: two static tokens have the name \"a\""]);
    }
}
