//! `tickets = true` in the configuration, and what changes without it.

use super::{assert_no_token, bare, echo, post};
use crate::program::{check, folder, text};
use crate::support::backend::Backend;
use crate::support::token::token;
use crate::support::{Gateway, admin};

/// The output of `check` with `routes` added to the file.
fn checked(routes: &str, settings: &[(&str, &str)]) -> (bool, String) {
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + routes).unwrap();
    let output = check(folder.path(), settings);
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn check_lists_the_routes_that_accept_tickets() {
    let route = "[[route]]\nname = 'events'\nmethods = ['GET']\npath = '/events'\n";
    let note = "route[0] \"events\" accepts tickets: GET of /events may have ?ticket= instead of a token";
    assert!(!checked(route, &[]).1.contains("tickets"));
    let (is_valid, printed) = checked(&format!("{route}tickets = true\n"), &[]);
    assert!(is_valid && printed.contains(note), "{printed}");
}

#[test]
fn contradictions_are_errors() {
    let route = |rest: &str| format!("[[route]]\nmethods = ['GET']\npath = '/events'\n{rest}\n");
    for (routes, problem) in [
        (
            route("tickets = true\npublic = true"),
            "route[0].tickets: cannot be true on a public route, whose requests have no token",
        ),
        (route("tickets = 1"), "route[0].tickets: must be true or false"),
        (
            route("tickets = true\nquery = ['ticket']"),
            "route[0].query: \"ticket\" is the ticket itself, which is not forwarded",
        ),
        (
            route("tickets = true").replace("GET", "POST"),
            "route[0].tickets: can be true only with GET among the methods",
        ),
        (
            route("tickets = true") + "[[route]]\nmethods = ['GET']\npath = '/auth/ticket'\n",
            "route[1]: \"/auth/ticket\" is the gateway's own path /auth/ticket: take the route out, or set tickets to false on every route",
        ),
        (
            route("tickets = true\nname = 'ticket'"),
            "route[0].name: \"ticket\" is the gateway's own, since there are tickets",
        ),
    ] {
        for login in ["true", "false"] {
            let (is_valid, printed) = checked(&routes, &[("LOGIN_ENABLED", login)]);
            assert!(!is_valid && printed.contains(problem), "{problem}: {printed}");
        }
    }
}

#[tokio::test]
async fn without_tickets_the_path_is_as_any_other() {
    let (service, admin) = (Backend::start(echo).await, admin().await);
    let none = "[{ methods = ['GET'], path = '/events', query = '*' }]";
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", none)]);
    let asked = post(&token("user01"), "Content-Type: application/json\r\n", "{}");
    assert_eq!(gateway.exchange(&asked).await.status, 404);
    assert_no_token(&gateway.exchange(bare("POST", "/auth/ticket", "Content-Length: 0\r\n")).await);
    assert_no_token(&gateway.exchange(bare("GET", "/events?ticket=x", "")).await);
    let header = format!("Authorization: Bearer {}\r\n", token("user01"));
    assert_eq!(gateway.exchange(bare("GET", "/events?ticket=x", &header)).await.body, "/events?ticket=x");
    let own = "[{ name = 'ticket', methods = ['POST'], path = '/auth/ticket' }]";
    let gateway = Gateway::start_with(&service, &admin, &[("ROUTE", own)]);
    assert_eq!(gateway.exchange(&asked).await.body, "/auth/ticket");
}
