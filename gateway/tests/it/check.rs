//! Errors and warnings about files and routes, at `check`, start and reload.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::program::{self, Program, check, command, text};
use crate::support::certificate::certificates;
use crate::support::{admin, api, until};

/// A [`program::folder`] that causes no warnings: only the owner can read the key.
fn folder() -> TempDir {
    let folder = program::folder();
    fs::set_permissions(folder.path().join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    folder
}

/// Writes a certificate for `localhost`, valid between these days from now, and returns its expiry date.
fn write_certificate(folder: &Path, from: i64, to: i64) -> String {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now + Duration::days(from), now + Duration::days(to));
    let key = KeyPair::generate().unwrap();
    let date = params.not_after.date().to_string();
    fs::write(folder.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    date
}

fn append(folder: &Path, toml: &str) {
    let file = folder.join("gateway.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + toml).unwrap();
}

/// Runs `check --strict`; returns whether it passed, and its output.
fn strict(folder: &Path) -> (bool, String) {
    let output = command(folder).args(["--config", "gateway.toml", "check", "--strict"]).output().unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_certificate_that_is_or_soon_will_be_invalid_is_a_warning_that_strict_refuses() {
    let folder = folder();
    let path = folder.path();
    assert!(strict(path).0, "the test configuration causes no warnings: {}", strict(path).1);
    for (from, to, expected) in [
        (-30, -1, "the certificate expired on "),
        (-30, 10, "the certificate expires on "),
        (2, 30, "the certificate is not valid before "),
    ] {
        let date = write_certificate(path, from, to);
        let output = check(path, &[]);
        assert!(output.status.success(), "{output:?}");
        let printed = text(&output.stdout);
        assert!(printed.contains(&format!("warning: tls.certificate: {expected}")), "{printed}");
        assert!(from > 0 || printed.contains(&date), "{printed}");
        let (passed, printed) = strict(path);
        assert!(!passed && printed.contains("1 warning, which --strict refuses"), "{printed}");
    }
    write_certificate(path, -30, 15);
    assert!(strict(path).0);
}

#[test]
fn routes_with_websocket_connections_are_listed() {
    let folder = folder();
    append(
        folder.path(),
        "[[route]]\nname = 'chat'\npath = '/chat'\nmethods = ['GET']\nupgrade = 'websocket'\n\
         [[route]]\nname = 'rest'\npath = '/{*rest}'\nmethods = ['GET']\n",
    );
    let (passed, printed) = strict(folder.path());
    assert!(passed && printed.contains("note: route[0] \"chat\" accepts WebSocket connections\n"), "{printed}");
    assert!(!printed.contains("\"rest\" accepts"), "{printed}");
}

#[test]
fn an_address_without_quotes_is_reported_as_such() {
    let folder = folder();
    let file = folder.path().join("gateway.toml");
    let settings = fs::read_to_string(&file).unwrap();
    for address in ["0.0.0.0:443", "[::]:443", "localhost:443"] {
        fs::write(&file, settings.replace("'127.0.0.1:0'\nops", &format!("{address}\nops"))).unwrap();
        let output = check(folder.path(), &[]);
        let printed = text(&output.stderr);
        assert!(!output.status.success());
        assert!(
            printed.contains("gateway.toml: a text value must be in quotes, as in https_addr = ")
                && printed.contains("(line 1)"),
            "{printed}"
        );
    }
}

#[test]
fn strict_fails_on_warnings_but_not_on_notes() {
    let folder = folder();
    let path = folder.path();
    append(path, "[hsts]\nmax_age = 0\n");
    let (passed, printed) = strict(path);
    assert!(passed && printed.contains("note: hsts.max_age"), "{printed}");
    append(path, "[[route]]\nmethods = ['get']\npath = '/a'\n");
    let (passed, printed) = strict(path);
    assert!(!passed && printed.contains("warning: route[0]: the method \"get\""), "{printed}");
}

#[tokio::test]
async fn start_and_reload_warn_about_a_certificate() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    write_certificate(folder.path(), -30, -1);
    let program = Program::start(folder.path(), &api, &admin, &[]).await;
    write_certificate(folder.path(), -30, 10);
    program.signal("-HUP");
    let series = r#"gateway_certificate_expiry_timestamp_seconds{certificate="0",name="localhost"}"#;
    let now = OffsetDateTime::now_utc().unix_timestamp() as f64;
    until("the new certificate is loaded", async || program.metric(series).await > now).await;
    let log = program.stop();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let warnings: Vec<_> = lines.iter().filter_map(|line| line["warning"].as_str()).collect();
    assert_eq!(warnings.len(), 2, "{log}");
    assert!(warnings[0].starts_with("tls.certificate: the certificate expired on "), "{log}");
    assert!(warnings[1].starts_with("tls.certificate: the certificate expires on "), "{log}");
}

#[tokio::test]
async fn no_part_of_a_key_is_shown_by_check_start_or_reload() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let path = folder.path();
    let key = certificates().key.clone();
    let program = Program::start(path, &api, &admin, &[]).await;
    let mut shown = String::new();
    let result = "gateway_config_last_reload_successful";
    for broken in
        [key.replace('\n', ""), key.replace('\n', "\\n"), key.replace('\n', "\\n\n"), key.replacen("-\n", "-", 1)]
    {
        fs::write(path.join("key.pem"), &broken).unwrap();
        let output = check(path, &[]);
        assert!(!output.status.success());
        let printed = text(&output.stderr);
        assert!(printed.contains("tls.private_key: key.pem: the PEM has lost its line breaks"), "{printed}");
        shown += &printed;
        // The content of the file instead of its path.
        for name in ["TLS_PRIVATE_KEY", "TLS_CERTIFICATE"] {
            let output = check(path, &[(name, broken.as_str())]);
            let printed = text(&output.stderr);
            assert!(printed.contains("the value must be the path of a file, and not its content"), "{printed}");
            shown += &text(&output.stdout);
            shown += &printed;
        }
        let served = command(path).args(["--config", "gateway.toml"]).output().unwrap();
        assert!(!served.status.success());
        shown += &text(&served.stdout);
        shown += &text(&served.stderr);
        program.signal("-HUP");
        until("the reload fails", async || program.metric(result).await == 0.0).await;
        fs::write(path.join("key.pem"), &key).unwrap();
        program.signal("-HUP");
        until("the valid key is loaded", async || program.metric(result).await == 1.0).await;
    }
    shown += &program.stop();
    let base64: String = key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(base64.len() > 100);
    for window in base64.as_bytes().windows(8) {
        let numbers = window.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let hex: String = window.iter().map(|byte| format!("{byte:02x}")).collect();
        for part in [text(window), numbers, hex] {
            assert!(!shown.contains(&part), "{part}: {shown}");
        }
    }
}

#[test]
fn routes_that_are_probably_mistakes_are_warnings_with_a_suggestion() {
    let folder = folder();
    let path = folder.path();
    append(
        path,
        "[[route]]\nname = 'a'\nmethods = ['GET']\npath = '/a/*'\n\
         [[route]]\nname = 'b'\nmethods = ['get', 'FETCH']\npath = '/b/'\n\
         [[route]]\nname = 'c'\nmethods = ['GET']\npath = '/c/{id}'\n\
         [[route]]\nname = 'd'\nmethods = ['POST']\npath = '/c/d'\n",
    );
    let output = check(path, &[]);
    assert!(output.status.success(), "existing configurations remain valid: {output:?}");
    let printed = text(&output.stdout);
    for expected in [
        "warning: route[0]: \"/a/*\" has a *, which is a literal character and no wildcard: write \"/a/{name}\"",
        "warning: route[1]: the method \"get\" is not \"GET\"",
        "warning: route[1]: the method \"FETCH\" is in no registry",
        "warning: route[1]: \"/b/\" ends with a slash",
        "warning: route[3]: no request reaches the route \"d\": the earlier route \"c\" matches its path",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    assert_eq!(printed.matches("warning: ").count(), 5, "{printed}");
}

#[test]
fn a_route_at_a_path_of_the_gateway_is_an_error_if_that_path_is_in_use() {
    for (route, own, needs_revocation) in [
        ("path = '/auth'", "/auth", false),
        ("path = '/x'\naliases = ['/auth']", "/auth", false),
        ("path = '/holoapi/auth'", "/auth", false),
        ("path = '/auth/logout'", "/auth/logout", true),
        ("path = '/holoapi/auth/logout'", "/auth/logout", true),
    ] {
        let folder = folder();
        let path = folder.path();
        append(path, &format!("[[route]]\nname = 'r'\nmethods = ['POST']\n{route}\n"));
        let check = |login: &str, revocation: &str| {
            let settings =
                [("STRIP_PREFIX", "['/holoapi']"), ("LOGIN_ENABLED", login), ("REVOCATION_ENABLED", revocation)];
            check(path, &settings)
        };
        let output = check("true", "true");
        let printed = text(&output.stderr);
        assert!(!output.status.success(), "{route}: {output:?}");
        assert!(
            printed.contains("  route[0]: ") && printed.contains(&format!("the gateway's own path {own}: ")),
            "{printed}"
        );
        // Without revocation, the logout path is not reserved.
        assert_eq!(check("true", "false").status.success(), needs_revocation, "{route}");
        let output = check("false", "false");
        assert!(output.status.success(), "{route}: {output:?}");
        assert!(!text(&output.stdout).contains("gateway answers"), "{route}: {output:?}");
        let output = check("false", "true");
        assert!(output.status.success(), "{route}: {output:?}");
        assert_eq!(text(&output.stdout).contains("no request reaches"), needs_revocation, "{route}: {output:?}");
    }
}

#[test]
fn a_static_token_is_only_created_for_configured_routes_and_with_a_new_name() {
    let folder = folder();
    let path = folder.path();
    append(
        path,
        "[[route]]\nname = 'notes'\nmethods = ['GET']\npath = '/notes'\n\
         [[route]]\nname = 'days'\nmethods = ['GET']\npath = '/days'\n\
         [[static_token]]\nname = 'taken'\nsha256 = 'unread'\nroutes = ['notes']\n",
    );
    // The secrets are not required to create a token.
    fs::remove_file(path.join(".env")).unwrap();
    fs::remove_file(path.join("key.pem")).unwrap();
    let new = |arguments: &[&str]| {
        let mut command = command(path);
        command.args(["--config", "gateway.toml", "static-token", "new"]).args(arguments).output().unwrap()
    };
    for routes in ["nosuch", "notes,nosuch", "nosuch,*"] {
        let refused = new(&["a", "--routes", routes]);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
        let printed = text(&refused.stderr);
        assert!(printed.contains("\"nosuch\" is not a route") && printed.contains("\"notes\", \"days\""), "{printed}");
    }
    let refused = new(&["taken"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("\"taken\" is in the configuration already"));
    for arguments in [&["a"][..], &["a", "--routes", "notes,days"], &["a", "--routes", "*"]] {
        assert!(new(arguments).status.success(), "{arguments:?}");
    }
    // Without a configuration, names are not checked.
    let created = command(path).args(["static-token", "new", "a", "--routes", "nosuch"]).output().unwrap();
    assert!(created.status.success(), "{created:?}");
}
