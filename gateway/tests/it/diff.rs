//! `holodule-gateway diff`: what a reload would change, compared with the running gateway or with another file.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use holodule_gateway::route::default_routes;

use crate::program::{Program, command, folder, text};
use crate::support::{admin, api, token};

const ROUTE: &str = "[[route]]\nname = 'new'\npath = '/new'\nmethods = ['GET']\n";

fn diff(folder: &Path, file: &str, arguments: &[&str]) -> Output {
    command(folder).args(["--config", file, "diff"]).args(arguments).output().unwrap()
}

fn assert_lines(output: &Output, status: i32, expected: &[&str]) {
    let (lines, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), errors.as_str()), (Some(status), ""), "{lines}");
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn two_files_are_compared_and_no_secret_is_shown() {
    let folder = folder();
    let path = folder.path();
    let settings = fs::read_to_string(path.join("gateway.toml")).unwrap();
    let keys = |secret: &str| format!("[[key]]\nkid = 'one'\nsecret = '{secret}'\n");
    let [before, after] = ["hush hush hush hush hush hush hush", "still still still still still still"].map(keys);
    fs::write(path.join(".env"), "REVOCATION_ENABLED=false\n").unwrap();
    fs::write(path.join("old.toml"), format!("{settings}{before}")).unwrap();
    assert_lines(&diff(path, "old.toml", &["--against", "old.toml"]), 0, &[]);
    let changed = format!("hosts = ['a.example']\nhttp_addr = '127.0.0.1:0'\n{settings}{after}{ROUTE}");
    fs::write(path.join("new.toml"), changed).unwrap();
    let output = diff(path, "new.toml", &["--against", "old.toml"]);
    assert!(!text(&output.stdout).contains("hush") && !text(&output.stdout).contains("still"), "{output:?}");
    // The default routes apply only if there are no others.
    let default: Vec<_> = default_routes().into_iter().filter_map(|route| route.name).collect();
    let order = format!("{:?} -> \"new\"", default.join(", ")).replace(", ", "\", \"");
    let order = format!("changed route order: {order} (by reload)");
    let mut routes: Vec<_> = default.iter().map(|name| format!("removed route {name:?} (by reload)")).collect();
    routes.push("added   route \"new\" (by reload)".to_owned());
    routes.sort_by_key(|line| line.split('"').nth(1).unwrap_or_default().to_owned());
    let routes = routes.iter().map(String::as_str);
    let before = [
        "changed hosts: [] -> [\"a.example\"] (by reload)",
        "changed http_addr: \"\" -> \"127.0.0.1:0\" (needs an upgrade)",
    ];
    let after = [&order, "changed key: a secret, or the content of a file (by reload)"];
    let lines: Vec<_> = before.into_iter().chain(routes).chain(after).collect();
    assert_lines(&output, 1, &lines);
    let invalid = diff(path, "new.toml", &["--against", "missing.toml"]);
    assert_eq!((invalid.status.code(), text(&invalid.stdout).as_str()), (Some(2), ""), "{invalid:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_compared_with_the_running_gateway() {
    let (api, admin) = (api().await, admin().await);
    let folder = folder();
    let path = folder.path();
    let settings = fs::read_to_string(path.join("gateway.toml")).unwrap();
    let program = Program::start(path, &api, &admin, &[]).await;
    let ops = program.ops().to_owned();
    let write = |more: &str| fs::write(path.join("gateway.toml"), format!("{more}{settings}")).unwrap();
    let compare = || {
        let environment = [("UPSTREAM_API", api.address.as_str()), ("UPSTREAM_ADMIN", &admin.address)];
        let mut command = command(path);
        command.args(["--config", "gateway.toml", "diff", "--ops", &ops]).envs(environment).output().unwrap()
    };
    assert_lines(&compare(), 0, &[]);
    let more = "hosts = ['a.example']\ndrain_timeout = 7\n";
    write(more);
    let expected = ["changed drain_timeout -> 7 (by reload)", "changed hosts -> [\"a.example\"] (by reload)"];
    assert_lines(&compare(), 1, &expected);
    program.signal("-HUP");
    crate::support::until("the reload is in force", async || compare().status.code() == Some(0)).await;
    write(&format!("log.format = 'json'\nhsts.max_age = 7\n{more}"));
    let upgrade = "changed log.format -> \"json\" (needs an upgrade)";
    assert_lines(&compare(), 1, &["changed hsts.max_age -> 7 (by reload)", upgrade]);
    program.signal("-HUP");
    crate::support::until("only the upgrade remains", async || text(&compare().stdout).lines().count() == 1).await;
    assert_lines(&compare(), 1, &[upgrade]);
    let log = program.stop();
    assert!(!log.contains(&token::secret()));
    let stopped = diff(path, "gateway.toml", &["--ops", &ops]);
    assert_eq!((stopped.status.code(), text(&stopped.stdout).as_str()), (Some(2), ""), "{stopped:?}");
}

#[test]
fn names_are_shown_and_a_changed_route_of_any_name_is_found() {
    let folder = folder();
    let path = folder.path();
    let settings = fs::read_to_string(path.join("gateway.toml")).unwrap();
    let of = |first: &str, second: &str| {
        let route = |name: &str, path: &str| {
            format!("[[route]]\nname = '{name}'\npath = '{path}'\nmethods = ['GET']\nservice = 'docs2'\n")
        };
        let service = "[[service]]\nname = 'docs2'\naddresses = ['127.0.0.1:3000']\n";
        format!("{settings}{service}{}{}", route("docs2", first), route("v2docs3", second))
    };
    fs::write(path.join("old.toml"), of("/docs2", "/v2docs3")).unwrap();
    fs::write(path.join("new.toml"), of("/docs4", "/v2docs5")).unwrap();
    let expected = [
        "changed route \"docs2\".path: \"/docs2\" -> \"/docs4\" (by reload)",
        "changed route \"v2docs3\".path: \"/v2docs3\" -> \"/v2docs5\" (by reload)",
    ];
    assert_lines(&diff(path, "new.toml", &["--against", "old.toml"]), 1, &expected);
}

/// The commands that print lists, with `output` as standard output.
fn lists(path: &Path, output: &dyn Fn() -> Stdio) -> Vec<Output> {
    let all: [&[&str]; 5] = [
        &["--config", "new.toml", "diff", "--against", "gateway.toml"],
        &["--config", "gateway.toml", "check", "--show"],
        &["--config", "gateway.toml", "check"],
        &["static-token", "new", "a"],
        &["--help"],
    ];
    let run = |arguments: &&[&str]| command(path).args(*arguments).stdout(output()).output().unwrap();
    all.iter().map(run).collect()
}

#[test]
fn commands_end_quietly_if_the_reader_has_closed_the_pipe_but_not_if_the_disk_is_full() {
    let folder = folder();
    let path = folder.path();
    let settings = fs::read_to_string(path.join("gateway.toml")).unwrap();
    fs::write(path.join("new.toml"), format!("hosts = ['a.example']\n{settings}")).unwrap();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for output in lists(path, &closed) {
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""));
    }
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let statuses: Vec<_> =
        lists(path, &full).into_iter().map(|output| (output.status.code(), text(&output.stderr))).collect();
    for ((status, errors), expected) in statuses.iter().zip([2, 1, 1, 1, 2]) {
        assert_eq!(*status, Some(expected), "{errors}");
        assert!(errors.contains("No space left on device"), "{errors}");
    }
}

#[test]
fn a_wrong_option_is_described_in_the_terms_of_its_value() {
    let folder = folder();
    for (option, value, expected) in [
        ("--timeout", "soon", "must be a whole number of seconds"),
        ("--ops", "here", "must be an IP address with a port"),
    ] {
        let wrong = command(folder.path()).args(["upgrade", option, value]).output().unwrap();
        assert!(text(&wrong.stderr).contains(expected), "{wrong:?}");
    }
}
