//! Puts secrets in wrong places and searches for them in the reports of a program. The tests of both programs use it
//! with their own keys and configurations.

#![allow(unreachable_pub, reason = "a part of test programs, which export nothing")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use holodule_settings::Overlaid;

/// The shortest part of a secret that counts as found, in bytes.
const WINDOW: usize = 12;

/// A secret for tests.
pub struct Secret {
    pub kind: &'static str,
    pub text: String,
}

/// One secret of each kind. They are generated here and give access to nothing.
pub fn secrets() -> Vec<Secret> {
    let body: Vec<String> = (0..4).map(|line| base64(&bytes(48, 7 + line))).collect();
    let hex = |seed| bytes(32, seed).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let base64url = base64(&bytes(48, 1)).replace('+', "-").replace('/', "_");
    let password = "p4$s#W0rd/8c{X}q2!Zt=9";
    let of = |kind, text| Secret { kind, text };
    vec![
        of("a secret of tokens, base64url", base64url.clone()),
        of("a secret of tokens, hexadecimal", hex(2)),
        of("a secret of tokens, base64", base64(&bytes(32, 3))),
        of("PEM", format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.join("\n"))),
        of("a static token", format!("holodule_{}", hex(4))),
        of("a JSON Web Token", format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", base64url, base64(&bytes(33, 5)))),
        of("a URL of MongoDB", format!("mongodb://holo-user:{}@db.example:27017/holoduledb", hex(6))),
        of("a password of MongoDB", password.to_owned()),
    ]
}

/// `secret` after at least twenty accidents, each with its name.
pub fn mangled(secret: &str) -> Vec<(&'static str, String)> {
    let half = secret.len() / 2;
    let lines: Vec<&str> = secret.lines().collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let bytes: Vec<u8> = secret.bytes().collect();
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    vec![
        ("as it is", secret.to_owned()),
        ("without line breaks", lines.concat()),
        ("with literal line breaks", lines.join("\\n")),
        ("with spaces for line breaks", lines.join(" ")),
        ("with CRLF", lines.join("\r\n")),
        ("with CR", lines.join("\r")),
        ("indented", lines.join("\n  ")),
        ("without its first line", lines.get(1..).unwrap_or_default().join("\n")),
        ("without its last line", lines.get(..lines.len() - 1).unwrap_or_default().join("\n")),
        ("the first half", secret[..half].to_owned()),
        ("the second half", secret[half..].to_owned()),
        ("in double quotes", format!("\"{secret}\"")),
        ("in single quotes", format!("'{secret}'")),
        ("behind a quote", format!("\"{secret}")),
        ("in capitals", secret.to_uppercase()),
        ("behind a byte order mark", format!("\u{feff}{secret}")),
        ("between spaces", format!("  {secret}  ")),
        ("with a control character", format!("{secret}\u{7}")),
        ("behind its name", format!("JWT_SECRET_KEY={secret}")),
        ("in base64", base64(secret.as_bytes())),
        ("in hexadecimal", hex),
        ("percent-encoded", percent),
        ("as a list of bytes", format!("{bytes:?}")),
        ("in a list", format!("[{}]", quoted(secret))),
        ("in a table", format!("{{ a = {} }}", quoted(secret))),
        ("as a name in a table", format!("{{ {} = 1 }}", quoted(secret))),
        ("in a list of tables", format!("[{{ a = {}, {} = 1 }}]", quoted(secret), quoted(secret))),
        ("as the user of a URL", format!("https://user:{secret}@example.org/")),
        ("without the @ of a URL", format!("mongodb://user:{secret}.db.example/holoduledb")),
        ("as an option of a URL", format!("mongodb://db.example/?tls={secret}")),
        ("as a path", format!("/{secret}")),
        ("as a Unix socket", format!("unix:/{secret}")),
        ("as a file of the embedded store", format!("embedded:/missing/{secret}")),
        ("as a host with a port", format!("{secret}:443")),
        ("twice", format!("{secret}{secret}")),
        ("before a quote that breaks TOML", format!("{secret}' = \"")),
    ]
}

/// The sources of a program's settings.
pub struct Input {
    pub what: String,
    pub toml: String,
    pub dotenv: String,
    pub process: BTreeMap<String, String>,
}

/// One of this many keys is also tested alone.
const SHARE: usize = 12;

/// `value` in every place of a setting: for all `keys` at once, so that each has a problem, and for some of them alone,
/// others in each `round`. `tables` are the keys of lists of tables with their fields.
pub fn inputs(what: &str, value: &str, round: usize, keys: &[String], tables: &[(&str, &[&str])]) -> Vec<Input> {
    let name = |key: &str| key.replace('.', "_").to_uppercase();
    let quoted = quoted(value);
    let toml = |written: &dyn Fn(&str) -> String| {
        keys.iter().map(|key| format!("{key} = {}\n", written(key))).collect::<String>()
    };
    let variables = |written: &str| keys.iter().map(|key| (name(key), written.to_owned())).collect::<BTreeMap<_, _>>();
    let table = |fields: &[&str]| {
        let fields: Vec<_> = fields.iter().map(|field| format!("{field} = {quoted}")).collect();
        let names: Vec<_> =
            fields.iter().map(|field| field.replace(&format!("= {quoted}"), &format!("= [{quoted}]"))).collect();
        format!("[{{ {} }}, {{ {} }}, {{ {quoted} = 1 }}]", fields.join(", "), names.join(", "))
    };
    let lists: String = tables.iter().map(|(key, fields)| format!("{key} = {}\n", table(fields))).collect();
    let list_variables = tables.iter().map(|(key, fields)| (name(key), table(fields))).collect();
    let input = |place: &str, toml: String, dotenv: String, process| Input {
        what: format!("{what}, {place}"),
        toml,
        dotenv,
        process,
    };
    let none = BTreeMap::new;
    let mut inputs = vec![
        input("in the file", toml(&|_| quoted.clone()), String::new(), none()),
        input("in lists of the file", toml(&|_| format!("[{quoted}]")), String::new(), none()),
        input("in tables of the file", toml(&|_| format!("{{ {quoted} = {quoted} }}")), String::new(), none()),
        input("in tables of lists of the file", lists, String::new(), none()),
        input("in lists of variables", String::new(), String::new(), list_variables),
        input("as a key", format!("{quoted} = 1\n[log]\n{quoted} = 1\n"), String::new(), none()),
        input("as the file", value.to_owned(), String::new(), none()),
        input("as .env", String::new(), value.to_owned(), none()),
        input("in variables", String::new(), String::new(), variables(value)),
        input("in lists in variables", String::new(), String::new(), variables(&format!("[{quoted}]"))),
        input(
            "as the name of a variable",
            String::new(),
            String::new(),
            BTreeMap::from([(value.to_owned(), String::new())]),
        ),
        input("in .env", String::new(), keys.iter().map(|key| format!("{}={value}\n", name(key))).collect(), none()),
        input(
            "in .env with spaces",
            String::new(),
            keys.iter().map(|key| format!("{} {value}\n", name(key))).collect(),
            none(),
        ),
    ];
    for key in keys.iter().skip(round % SHARE).step_by(SHARE) {
        inputs.push(input(
            &format!("alone in {key}"),
            String::new(),
            String::new(),
            BTreeMap::from([(name(key), value.to_owned())]),
        ));
        inputs.push(input(
            &format!("unquoted in {key} of the file"),
            format!("{key} = {value}\n"),
            String::new(),
            none(),
        ));
    }
    inputs
}

/// Writes the files of `input`, and reads its `.env` and its variables as both programs do. `secret_keys` are the
/// variables that hold secrets.
pub fn overlay(input: &Input, toml: &Path, secret_keys: &[&str]) -> Overlaid {
    let dotenv = toml.with_file_name(".env");
    fs::write(toml, &input.toml).unwrap();
    fs::write(&dotenv, &input.dotenv).unwrap();
    holodule_settings::overlay(input.process.clone().into_iter().collect(), &dotenv, secret_keys)
}

/// Fails if the report of a configuration repeats a secret that is in any of its options.
pub fn check_options(keys: &[String], tables: &[(&str, &[&str])], report: impl Fn(&Input) -> String) {
    let mut count = 0;
    for secret in secrets() {
        let search = Search::new(&secret.text);
        let forms = mangled(&secret.text);
        assert!(forms.len() >= 20);
        for (round, (form, value)) in forms.into_iter().enumerate() {
            for input in inputs(&format!("{} {form}", secret.kind), &value, round, keys, tables) {
                search.check(&input.what, &report(&input));
                count += 1;
            }
        }
    }
    assert!(count > 8 * 20 * 20, "{count}");
}

/// Fails if `report` repeats one of `secrets`. It gets each of the first `most` mangled forms of each.
pub fn check_forms(secrets: Vec<Secret>, most: usize, mut report: impl FnMut(&str) -> Vec<(String, String)>) {
    for secret in secrets {
        let search = Search::new(&secret.text);
        for (form, value) in mangled(&secret.text).into_iter().take(most) {
            for (place, text) in report(&value) {
                search.check(&format!("{} {form}, {place}", secret.kind), &text);
            }
        }
    }
}

/// `text` as a TOML string; JSON strings are valid TOML.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Finds a secret in reports.
pub struct Search {
    patterns: Vec<String>,
    /// Reports that were searched already: most inputs have the same errors.
    seen: RefCell<BTreeSet<String>>,
}

impl Search {
    /// Searches for any part of `secret`: as text in any case, in hexadecimal, base64, and as a list of numbers.
    pub fn new(secret: &str) -> Self {
        let mut patterns = Vec::new();
        // The first and last line of PEM are not secret, nor is the rest of a URL after its user.
        let is_public = |line: &&str| !line.starts_with("-----");
        let private =
            secret.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map_or(secret, |(user, _)| user);
        for line in private.lines().filter(is_public) {
            let window = WINDOW.min(line.len());
            for piece in line.as_bytes().windows(window).step_by(2) {
                patterns.push(String::from_utf8(piece.to_vec()).unwrap().to_lowercase());
                patterns.push(piece.iter().map(|byte| format!("{byte:02x}")).collect());
                patterns.push(piece.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
                for shift in 0..3 {
                    let shifted: Vec<u8> = std::iter::repeat_n(0, shift).chain(piece.iter().copied()).collect();
                    let encoded = base64(&shifted).to_lowercase();
                    patterns.push(encoded[[0, 2, 3][shift]..encoded.len() - 4].to_owned());
                }
            }
        }
        assert!(!patterns.is_empty());
        Self { patterns, seen: RefCell::default() }
    }

    /// Fails if `text` contains a part of the secret.
    pub fn check(&self, what: &str, text: &str) {
        if !self.seen.borrow_mut().insert(text.to_owned()) {
            return;
        }
        let lower = text.to_lowercase();
        let standard = lower.replace('-', "+").replace('_', "/");
        let has_piece = |text: &str| self.patterns.iter().find(|piece| text.contains(piece.as_str()));
        let found = has_piece(&lower).or_else(|| if standard == lower { None } else { has_piece(&standard) });
        assert!(found.is_none(), "{what}: {found:?} is in {text}");
    }
}

/// Bytes that look random, the same in each run.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..count).map(|_| next()).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().enumerate().fold(0_u32, |bits, (place, byte)| bits | u32::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
