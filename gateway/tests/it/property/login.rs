//! Whatever the body of a login is, the backend gets exactly the two strings in it, or no request.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::support::backend::{Backend, json_answer};
use crate::support::random::{self, Random};
use crate::support::{Gateway, api};

/// Pieces of JSON, valid and invalid.
const PIECES: [&str; 36] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    " ",
    "\n",
    "\u{feff}",
    "\0",
    "null",
    "true",
    "0",
    "-1.5e3",
    "NaN",
    "\"username\"",
    "\"password\"",
    "\"Username\"",
    "\"user\\u006eame\"",
    "\"username\\u0000\"",
    "\"\"",
    "\"user01\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"ユーザー\"",
    "\"static:a\"",
    "{\"$ne\":null}",
    "[\"a\"]",
    "// a\n",
    "/* a */",
    "'a'",
    ",\"username\":\"other\"",
    ",\"x\":{\"a\":1,\"a\":2}",
    "\"password\":",
];

fn body(random: &mut Random) -> Vec<u8> {
    let value = |random: &mut Random| {
        let strings =
            ["\"user01\"", "\"p\"", "\"\"", "\"\\u0041\"", "\"ユーザー\"", "\"a\\nb\"", "\"\\\"\"", "\"static:a\""];
        let others = ["null", "1", "true", "[]", "{}", "{\"$ne\":null}"];
        if random.one_in(6) { random.pick(&others).to_owned() } else { random.pick(&strings).to_owned() }
    };
    let mut members = vec![format!("\"username\":{}", value(random)), format!("\"password\":{}", value(random))];
    match random.below(8) {
        0 => members.truncate(1),
        1 => members.push(format!("\"x\":{}", value(random))),
        2 => members.push(format!("\"user\\u006eame\":{}", value(random))),
        3 => members.swap(0, 1),
        _ => {}
    }
    let mut body = format!("{{{}}}", members.join(",")).into_bytes();
    for _ in 0..random.below(4) {
        let at = random.below(body.len() + 1);
        match random.below(4) {
            0 if at < body.len() => drop(body.remove(at)),
            1 if at < body.len() => body[at] = random.byte(),
            2 => body.truncate(at),
            _ => drop(body.splice(at..at, random.pick(&PIECES).bytes())),
        }
    }
    body
}

/// The members of a JSON object in their order, with duplicates.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// The result of a body by the contract.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// 400 without a request to the backend.
    Malformed,
    /// The backend verifies the two strings. Its success counts only if the body is `complete`.
    Verified { username: String, password: String, complete: bool },
}

fn reference(body: &[u8]) -> Expected {
    let Ok(Members(members)) = serde_json::from_slice::<Members>(body) else { return Expected::Malformed };
    let mut names: Vec<_> = members.iter().map(|(name, _)| name).collect();
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Expected::Malformed;
    }
    let text = |wanted: &str| match members.iter().find(|(name, _)| name == wanted) {
        None | Some((_, Value::Null)) => Some(String::new()),
        Some((_, Value::String(text))) => Some(text.clone()),
        Some(_) => None,
    };
    let (Some(username), Some(password)) = (text("username"), text("password")) else { return Expected::Malformed };
    let complete =
        !username.is_empty() && !password.is_empty() && members.len() == 2 && !username.starts_with("static:");
    Expected::Verified { username, password, complete }
}

#[tokio::test]
async fn the_backend_gets_the_two_strings_that_were_sent_or_no_request() {
    // The backend accepts any password, so that only the gateway refuses.
    let admin =
        Backend::start(|seen| json_answer("200 OK", &json!({"username": seen.json()["username"]}).to_string())).await;
    let api = api().await;
    let off = ["LIMIT_ADDRESS_RATE", "LIMIT_LOGIN_ADDRESS_FAILURES", "LIMIT_LOGIN_NAME_FAILURES"];
    let gateway = Gateway::start_with(&api, &admin, &off.map(|name| (name, "0")));
    let (first, cases) = (random::seed(), (random::cases(20_000) / 10).max(1));
    let mut connection = gateway.connect().await;
    for number in 0..cases {
        let seed = first.wrapping_add(number);
        let body = body(&mut Random::new(seed));
        let answer = connection.exchange(crate::auth::login(&body)).await;
        let seen: Vec<Value> = admin.seen().iter().map(|seen| seen.json()).collect();
        admin.forget();
        let (status, expected) = match reference(&body) {
            Expected::Malformed => (400, vec![]),
            Expected::Verified { username, password, complete } => {
                (if complete { 200 } else { 401 }, vec![json!({"username": username, "password": password})])
            }
        };
        if (answer.status, &seen) != (status, &expected) {
            random::report_seed("login bodies", seed);
            panic!("{:?}: {answer:?}, and the backend saw {seen:?}", String::from_utf8_lossy(&body));
        }
    }
    random::executed("login bodies over the wire", cases);
}
