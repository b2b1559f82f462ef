use std::fs;

use super::*;
use crate::config::{Config, Problems};

/// The configuration with `settings` in `[acme]`, in a temporary folder.
fn read(settings: &str, environment: &[(&str, &str)]) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap().cert.pem()).unwrap();
    let file = folder.path().join("gateway.toml");
    let text = format!(
        "https_addr = '[::]:443'\n[[route]]\nname = 'a'\npath = '/a'\nmethods = ['GET']\n[acme]\nca_root = {ca:?}\n{settings}"
    );
    fs::write(&file, text).unwrap();
    let state = folder.path().to_str().unwrap().to_owned();
    let common = [("JWT_SECRET_KEY", "only for the tests of this file. "), ("STATE_DIRECTORY", &state)];
    let environment = environment.iter().chain(&common).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read(Some(&file), environment.collect())
}

fn reasons(settings: &str) -> Vec<String> {
    let Problems(problems) = read(settings, &[]).err().unwrap();
    problems.iter().map(|problem| format!("{}: {}", problem.key, problem.reason)).collect()
}

const MINIMAL: &str = "email = 'ops@example.org'\ndomains = ['WWW.example.org', 'example.org']\naccept_terms = true\n";

#[test]
fn three_keys_suffice_and_the_domains_are_hosts() {
    let config = read(MINIMAL, &[]).unwrap();
    assert!(config.identities.is_empty(), "no other certificate is required");
    assert_eq!(config.flow.hosts, ["www.example.org", "example.org"]);
    assert_eq!(config.warnings(0), Vec::<String>::new());
    let acme = config.acme.unwrap();
    assert_eq!(acme.certificates, [["www.example.org", "example.org"]]);
    assert_eq!((acme.directory.as_str(), acme.email.as_deref()), (LETS_ENCRYPT, Some("ops@example.org")));
    assert!(acme.storage.ends_with("acme") && acme.binding.is_none() && acme.profile.is_none());
    assert_eq!(acme.challenges, [Challenge::TlsAlpn01]);
    let config = read(MINIMAL, &[("HTTP_ADDR", "[::]:80")]).unwrap();
    assert_eq!(config.acme.unwrap().challenges, [Challenge::Http01, Challenge::TlsAlpn01]);
}

#[test]
fn several_certificates_are_lists_of_names() {
    let config = read("accept_terms = true\ndomains = [['a.example', 'b.example'], ['c.example']]\n", &[]).unwrap();
    let acme = config.acme.unwrap();
    assert_eq!(acme.certificates, [vec!["a.example", "b.example"], vec!["c.example"]]);
    let config = read("accept_terms = true\n", &[("ACME_DOMAINS", "['a.example']")]).unwrap();
    assert_eq!(config.acme.unwrap().certificates, [["a.example"]]);
    assert!(read("", &[("TLS_CERTIFICATE", "")]).is_err(), "without domains, [tls] is required");
}

#[test]
fn names_that_no_challenge_can_validate_are_refused() {
    let reason = |list: &str| reasons(&format!("accept_terms = true\ndomains = {list}\n")).join("\n");
    let wildcard = reason("['*.example.org']");
    assert!(wildcard.contains("acme.domains: \"*.example.org\" is a wildcard, which requires dns-01"), "{wildcard}");
    assert!(reason("['192.0.2.1']").contains("is an IP address"));
    assert!(reason("['a.example', 'A.example']").contains("\"a.example\" is given twice"));
    assert!(reason("[['a.example'], ['a.example']]").contains("\"a.example\" is given twice"));
    for name in ["a..example", "-a.example", "a-.example", "a_b.example", "https://a.example", "a.example:443", "1.2"] {
        assert!(reason(&format!("['{name}']")).contains("is not a DNS name"), "{name}");
    }
    for list in ["'a.example'", "[['a.example'], 'b.example']", "['a.example', ['b.example']]", "[[]]", "[1]"] {
        let reason = reason(list);
        assert!(reason.contains("acme.domains: ") && !reason.contains("unknown"), "{list}: {reason}");
    }
    let many: Vec<_> = (0..=MAX_NAMES).map(|number| format!("n{number}.example")).collect();
    assert!(reason(&format!("{many:?}")).contains("has more than"));
}

#[test]
fn what_is_missing_is_reported() {
    let missing = reasons("domains = ['a.example']\n").join("\n");
    assert!(missing.contains("acme.accept_terms: must be true: with it you accept the terms"), "{missing}");
    let missing = reasons("email = 'ops@example.org'\n").join("\n");
    assert!(missing.contains("acme.domains: is required"), "{missing}");
    for email in ["ops", "a@b,c@d", "a@b?x", "@b", "a b@c"] {
        let reason = reasons(&format!("{}email = '{email}'\n", MINIMAL.replace("email = 'ops@example.org'\n", "")));
        assert_eq!(reason, ["acme.email: must be one email address"], "{email}");
    }
    for url in ["http://a.example/dir", "a.example", "https://user@a.example/dir"] {
        let reason = reasons(&format!("{MINIMAL}directory = '{url}'\n"));
        assert_eq!(reason, ["acme.directory: must be the https URL of a directory"], "{url}");
    }
    let reason = reasons(&format!("{MINIMAL}storage = '/dev/null/acme'\n")).join("\n");
    assert!(reason.contains("acme.storage: /dev/null/acme cannot be written to: not a directory"), "{reason}");
    let half = reasons(&format!("{MINIMAL}[tls]\ncertificate = '/nowhere'\n")).join("\n");
    assert!(half.contains("tls.certificate: and tls.private_key are required together"), "{half}");
    let further = reasons(&format!("{MINIMAL}[[certificate]]\ncertificate = '/a'\nprivate_key = '/b'\n")).join("\n");
    assert!(further.contains("certificate: requires tls.certificate"), "{further}");
}

#[test]
fn the_key_of_an_external_account_is_a_secret_in_base64url() {
    let binding =
        "eab_key_id = 'kid-1'\neab_key = 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W'\n";
    let config = read(&format!("{MINIMAL}{binding}"), &[]).unwrap();
    let shown = config.effective().join("\n");
    assert!(shown.contains("acme.eab_key = ") && !shown.contains("zWNDZM6e"), "{shown}");
    let binding = config.acme.unwrap().binding.unwrap();
    assert_eq!((binding.id.as_str(), binding.key.len()), ("kid-1", 48));
    let reason = reasons(&format!("{MINIMAL}eab_key_id = 'kid-1'\neab_key = 'hush!'\n")).join("\n");
    assert!(reason.contains("acme.eab_key: must be base64url") && !reason.contains("hush"), "{reason}");
    let reason = reasons(&format!("{MINIMAL}eab_key_id = 'kid-1'\n")).join("\n");
    assert_eq!(reason, "acme.eab_key: and acme.eab_key_id are required together");
}

#[test]
fn ports_that_no_ca_validates_at_and_an_exposed_storage_are_warned_about() {
    let config = read(MINIMAL, &[]).unwrap();
    let acme = config.acme.as_ref();
    let address = |text: &str| text.parse().unwrap();
    let about = |https: &str, http: Option<&str>| warnings(acme, address(https), http.map(address)).join("\n");
    for (https, http) in
        [("[::]:443", None), ("[::]:8443", Some("[::]:80")), ("127.0.0.1:0", None), ("[::]:443", Some("[::]:8080"))]
    {
        assert_eq!(about(https, http), "", "{https} {http:?}");
    }
    let ports = about("[::]:8443", None);
    assert!(
        ports.contains("at the ports 80 or 443 only, and http_addr is not set, https_addr is [::]:8443"),
        "{ports}"
    );
    assert!(about("[::]:8443", Some("[::]:8080")).contains("http_addr is [::]:8080"));
    assert!(about("127.0.0.1:443", Some("127.0.0.1:80")).contains("which the CA cannot reach"));
    assert!(warnings(None, address("127.0.0.1:8443"), None).is_empty());
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let exposed = Settings { storage: folder.path().to_owned(), ..config.acme.unwrap() };
    let warning = warnings(Some(&exposed), address("[::]:443"), None).join("\n");
    assert!(warning.contains("can be changed by others than its owner"), "{warning}");
}

#[test]
fn the_state_is_in_the_folder_of_systemd_or_its_usual_path() {
    let of = |value: &str| state_directory(&Environment::from_iter([("STATE_DIRECTORY".to_owned(), value.to_owned())]));
    assert_eq!(of("/var/lib/a:/var/lib/b"), Path::new("/var/lib/a"));
    assert_eq!(of(""), Path::new(STATE_DIRECTORY));
    assert_eq!(state_directory(&Environment::new()), Path::new("/var/lib/holodule-gateway"));
}
