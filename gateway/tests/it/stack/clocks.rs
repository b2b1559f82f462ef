//! One or two backends and two gateways whose clocks differ: a change of a user takes effect within a second
//! nevertheless, and a login after it works at once at each gateway.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::mongod::Server;
use super::process::{self, Process, run, wait_for};
use super::{Stack, wait_until_ready};
use crate::support::token;

const DAY: &str = "/holodules/20201209";

/// A request that begins later than this after a change must not get the response of before.
const BOUND: Duration = Duration::from_secs(1);

/// The environment of a program whose wall clock is `seconds` ahead. Its timers are not affected.
fn ahead(seconds: i64) -> Vec<(&'static str, String)> {
    let found = run(Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]), "");
    vec![
        ("LD_PRELOAD", found.trim().to_owned()),
        ("FAKETIME", format!("{seconds:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

/// Starts a backend and two gateways whose clocks are ahead by these numbers of seconds.
fn start(backend: i64, first: i64, second: i64) -> (Stack, Process) {
    let mut store = vec![("STORE", "embedded:store.redb".to_owned())];
    store.extend(ahead(backend));
    let mut gateway = vec![("JWT_SECRET_KEY", token::secret())];
    gateway.extend(ahead(first));
    let stack = Stack::start(&store, &gateway, None);
    let other = stack.another_gateway(&ahead(second));
    (stack, other)
}

/// Starts two backends over one replica set, each with a gateway, whose clocks are ahead by these numbers of seconds.
/// Dropping the last part of the result stops the second backend and the replica set.
fn start_two(backends: [i64; 2], gateways: [i64; 2]) -> (Stack, Process, (Process, Server)) {
    let server = Server::start(&["--replicas", "1"]);
    let mut store = vec![("STORE", server.fresh_url())];
    store.extend(ahead(backends[0]));
    let mut gateway = vec![("JWT_SECRET_KEY", token::secret())];
    gateway.extend(ahead(gateways[0]));
    let stack = Stack::start(&store, &gateway, None);
    let mut settings = stack.backend_settings.clone();
    settings.retain(|(name, _)| *name != "FAKETIME");
    settings.extend(ahead(backends[1]).into_iter().filter(|(name, _)| *name == "FAKETIME"));
    let folder = stack.folder.path().join("second");
    std::fs::create_dir(&folder).unwrap();
    let backend = Process::start(&process::backend(), &folder, &settings);
    wait_until_ready(&backend, "admin");
    let mut settings = ahead(gateways[1]);
    settings.push(("UPSTREAM_API", backend.address("api").to_owned()));
    settings.push(("UPSTREAM_ADMIN", backend.address("admin").to_owned()));
    let other = stack.another_gateway(&settings);
    (stack, other, (backend, server))
}

/// The token of a login at `gateway` that must succeed.
fn log_in(stack: &Stack, gateway: &Process, password: &str) -> String {
    let body = json!({"username": "user01", "password": password}).to_string();
    let arguments = ["-X", "POST", "-H", "Content-Type: application/json", "-d", &body];
    let answer = stack.curl_at(gateway, &arguments, "/auth");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

fn status(stack: &Stack, gateway: &Process, token: &str) -> u16 {
    stack.curl_at(gateway, &["-H", &format!("Authorization: JWT {token}")], DAY).status
}

fn assert_changes_take_effect_at_once(stack: &Stack, other: &Process) {
    stack.load();
    let gateways = [&stack.gateway, other];
    let tokens = |password: &str| {
        let tokens = gateways.map(|gateway| log_in(stack, gateway, password));
        for token in &tokens {
            let statuses = gateways.map(|gateway| status(stack, gateway, token));
            assert_eq!(statuses, [200, 200], "a login after the change");
        }
        tokens
    };
    let assert_refused = |tokens: &[String]| {
        let changed = Instant::now();
        for (token, gateway) in tokens.iter().flat_map(|token| gateways.map(|gateway| (token, gateway))) {
            wait_for("the refusal", || {
                let begun = changed.elapsed();
                let is_refused = status(stack, gateway, token) == 401;
                assert!(is_refused || begun < BOUND, "accepted {begun:?} after the change");
                is_refused.then_some(())
            });
        }
    };
    let before = tokens("password01");
    stack.command(&["user", "passwd", "user01"], "password02\n");
    // This login is faster than any feed can report the change.
    let after = tokens("password02");
    assert_refused(&before);
    stack.command(&["user", "disable", "user01"], "");
    assert_refused(&after);
    stack.command(&["user", "enable", "user01"], "");
    let enabled = tokens("password02");
    // The tokens from before stay revoked.
    assert_refused(&after);
    stack.command(&["user", "delete", "user01"], "");
    assert_refused(&enabled);
    stack.command(&["user", "add", "user01"], "password02\n");
    let added = tokens("password02");
    assert_refused(&[before, after, enabled].concat());
    // The expiry is checked with the gateway's clock, and the logout has to be remembered until then.
    let header = format!("Authorization: JWT {}", added[0]);
    assert_eq!(stack.curl(&["-X", "POST", "-H", &header], "/auth/logout").status, 204);
    assert_refused(&added[..1]);
}

#[test]
fn a_difference_of_the_clocks_is_measured_and_a_large_one_logged() {
    let (stack, other) = start(90, 0, 80);
    let skew = |gateway: &Process| {
        let url = format!("http://{}/metrics", gateway.address("ops"));
        let page = run(Command::new("curl").args(["-s", &url]), "");
        page.lines().find_map(|line| line.strip_prefix("gateway_backend_clock_skew_seconds ")?.parse::<i64>().ok())
    };
    let measured = [&stack.gateway, &other].map(|gateway| wait_for("the difference", || skew(gateway)));
    assert!((88..=92).contains(&measured[0]) && (8..=12).contains(&measured[1]), "{measured:?}");
    let is_logged = |gateway: &Process| gateway.log().contains("the backend's clock differs from this gateway's");
    wait_for("the line", || is_logged(&stack.gateway).then_some(()));
    assert!(!is_logged(&other));
}

#[test]
fn the_backends_clock_is_a_minute_behind() {
    let (stack, other) = start(0, 60, 60);
    assert_changes_take_effect_at_once(&stack, &other);
}

#[test]
fn the_backends_clock_is_a_minute_ahead() {
    let (stack, other) = start(60, 0, 0);
    assert_changes_take_effect_at_once(&stack, &other);
}

#[test]
fn one_gateways_clock_is_a_minute_ahead_of_both_others() {
    let (stack, other) = start(0, 60, 0);
    assert_changes_take_effect_at_once(&stack, &other);
}

#[test]
fn one_gateways_clock_is_a_minute_behind_both_others() {
    let (stack, other) = start(60, 0, 60);
    assert_changes_take_effect_at_once(&stack, &other);
}

#[test]
fn one_of_two_backends_is_a_minute_behind_the_other() {
    let (stack, other, _running) = start_two([60, 0], [0, 60]);
    assert_changes_take_effect_at_once(&stack, &other);
}

#[test]
fn one_of_two_backends_is_a_minute_ahead_of_the_other() {
    let (stack, other, _running) = start_two([0, 60], [60, 30]);
    assert_changes_take_effect_at_once(&stack, &other);
}
