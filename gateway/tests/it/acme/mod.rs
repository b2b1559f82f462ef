//! Obtaining and renewing certificates by ACME at given times, from a server with renewal information and profiles.

pub mod server;
mod validation;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holodule_gateway::acme::{Acme, Binding, Challenge, Event, Outcome, Settings, Storage};
use holodule_gateway::tls::{Authorities, ClientSide};
use tempfile::TempDir;

use crate::support::certificate::certificates;
use server::Server;

const START: i64 = 1_800_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A gateway's settings and a folder for its storage.
struct Site {
    server: Server,
    settings: Settings,
    _folder: TempDir,
}

fn trusting(folder: &Path, pem: &str) -> Arc<ClientSide> {
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    Arc::new(ClientSide::new(Authorities::read(&ca).unwrap(), None, "http/1.1").unwrap())
}

impl Site {
    /// A site whose certificates last for `days`.
    async fn new(days: i64) -> Self {
        let server = Server::start((START, START + days * DAY)).await;
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            certificates: vec![vec!["www.example.org".to_owned(), "example.org".to_owned()]],
            email: Some("ops@example.org".to_owned()),
            directory: server.directory.clone(),
            tls: trusting(folder.path(), &certificates().ca),
            profile: None,
            binding: None,
            storage: folder.path().join("acme"),
            retry_delay: Duration::from_secs(60),
            challenges: vec![Challenge::Http01, Challenge::TlsAlpn01],
        };
        Self { server, settings, _folder: folder }
    }

    /// A gateway, as after a start.
    fn gateway(&self) -> Acme {
        Acme::new(self.settings.clone(), Storage::open(&self.settings).unwrap())
    }

    fn orders(&self) -> usize {
        self.server.state().orders.len()
    }

    /// The next certificates begin at `start`, and last for `days`.
    fn issues(&self, start: i64, days: i64) {
        self.server.state().validity = (start, start + days * DAY);
    }
}

/// What happened, in short.
fn outcomes(events: &[Event]) -> Vec<String> {
    let outcome = |event: &Event| match &event.outcome {
        Outcome::Obtained => "obtained".to_owned(),
        Outcome::Loaded => "loaded".to_owned(),
        Outcome::Failed { error, .. } => format!("failed: {error}"),
        Outcome::NotLoaded(error) => format!("not loaded: {error}"),
    };
    events.iter().map(outcome).collect()
}

fn retry_at(events: &[Event]) -> i64 {
    match events {
        [Event { outcome: Outcome::Failed { retry_at, .. }, .. }] => *retry_at,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_renewal_information_a_certificate_is_renewed_at_two_thirds_of_its_lifetime() {
    for days in [90, 6] {
        let site = Site::new(days).await;
        let mut acme = site.gateway();
        assert_eq!(outcomes(&acme.step(START).await), ["obtained"]);
        let first = acme.identities();
        assert_eq!(first[0].names, ["www.example.org", "example.org"]);
        for time in [START + 1, START + days * DAY / 3, START + days * DAY / 3 * 2 - 1] {
            assert!(acme.step(time).await.is_empty(), "{days} days: {time}");
        }
        let due = START + days * DAY / 3 * 2 + days * DAY / 30;
        site.issues(due, days);
        assert_eq!(outcomes(&acme.step(due).await), ["obtained"]);
        assert_eq!(acme.identities()[0].not_after, due + days * DAY);
        assert_ne!(acme.identities()[0].certified.cert, first[0].certified.cert);
        assert!(acme.step(due + 1).await.is_empty());
        let state = site.server.state();
        assert_eq!((state.orders.len(), state.accounts.len(), state.renewal_infos), (2, 1, 0));
        assert!(state.orders.iter().all(|order| order.get("replaces").is_none()));
        assert_eq!(state.accounts[0]["contact"][0], "mailto:ops@example.org");
    }
}

#[tokio::test]
async fn the_suggested_window_of_the_server_determines_the_renewal() {
    let site = Site::new(90).await;
    site.server.state().window = Some((START + 10 * DAY, START + 11 * DAY));
    let mut acme = site.gateway();
    assert_eq!(outcomes(&acme.step(START).await), ["obtained"]);
    for time in [START + 1, START + 5 * DAY, START + 10 * DAY - 1] {
        assert!(acme.step(time).await.is_empty(), "{time}");
    }
    let renewal = acme.states().next().unwrap().renewal.unwrap();
    assert!((START + 10 * DAY..START + 11 * DAY).contains(&renewal), "{renewal}");
    assert!(acme.step(renewal - 1).await.is_empty());
    site.issues(renewal, 90);
    assert_eq!(outcomes(&acme.step(renewal).await), ["obtained"]);
    let state = site.server.state();
    let replaces = state.orders[1]["replaces"].as_str().unwrap();
    assert!(replaces.split('.').count() == 2 && state.orders[0].get("replaces").is_none(), "{replaces}");
}

#[tokio::test]
async fn a_window_that_moves_into_the_past_causes_a_renewal_at_once() {
    let site = Site::new(90).await;
    site.server.state().window = Some((START + 60 * DAY, START + 61 * DAY));
    let mut acme = site.gateway();
    assert_eq!(outcomes(&acme.step(START).await), ["obtained"]);
    assert!(acme.step(START + 1).await.is_empty());
    // As before the CA revokes certificates that it should not have issued.
    site.server.state().window = Some((START - 2 * DAY, START - DAY));
    let requested = site.server.state().renewal_infos;
    assert!(acme.step(START + HOUR).await.is_empty(), "the server asked for two hours");
    assert_eq!(site.server.state().renewal_infos, requested);
    assert_eq!(outcomes(&acme.step(START + 2 * HOUR + 1).await), ["obtained"]);
    assert!(site.server.state().orders[1].get("replaces").is_some());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_replaced_in_an_order_is_ordered_without_it() {
    let site = Site::new(90).await;
    site.server.state().window = Some((START + DAY, START + DAY + 2));
    site.server.state().refuses_replacement = true;
    let mut acme = site.gateway();
    acme.step(START).await;
    acme.step(START + 1).await;
    assert_eq!(outcomes(&acme.step(START + DAY + 2).await), ["obtained"]);
    assert!(site.server.state().orders[1].get("replaces").is_none());
}

#[tokio::test]
async fn a_profile_is_part_of_the_order_and_an_unknown_one_is_a_clear_failure() {
    let mut site = Site::new(6).await;
    site.settings.profile = Some("shortlived".to_owned());
    assert_eq!(outcomes(&site.gateway().step(START).await), ["obtained"]);
    assert_eq!(site.server.state().orders[0]["profile"], "shortlived");
    site.settings.profile = Some("longlived".to_owned());
    site.settings.certificates = vec![vec!["other.example".to_owned()]];
    let failed = outcomes(&site.gateway().step(START).await);
    assert_eq!(failed, ["failed: the ACME server refused: refused by the test (invalidProfile)"]);
}

#[tokio::test]
async fn an_external_account_is_bound_and_a_changed_contact_is_updated() {
    let mut site = Site::new(90).await;
    site.settings.binding = Some(Binding { id: "kid-1".to_owned(), key: vec![7; 32] });
    assert_eq!(outcomes(&site.gateway().step(START).await), ["obtained"]);
    assert!(site.server.state().accounts[0]["externalAccountBinding"]["signature"].is_string());
    site.settings.email = None;
    site.settings.certificates = vec![vec!["other.example".to_owned()]];
    for _ in 0..2 {
        site.gateway().step(START).await;
    }
    let state = site.server.state();
    assert_eq!(state.accounts.len(), 2, "it is updated once, and the key does not change");
    assert_eq!(state.accounts[1]["contact"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn failures_are_repeated_with_growing_delays_even_after_a_restart() {
    let site = Site::new(90).await;
    site.server.state().problem = Some(("serverInternal", 500, ""));
    let mut acme = site.gateway();
    let (mut now, mut delays) = (START, Vec::new());
    for _ in 0..5 {
        let events = acme.step(now).await;
        let next = retry_at(&events);
        delays.push(next - now);
        let requests = site.server.state().requests;
        for time in [now, now + 1, next - 1] {
            assert!(acme.step(time).await.is_empty());
            assert!(site.gateway().step(time).await.is_empty(), "after a restart");
        }
        assert_eq!(site.server.state().requests, requests, "it waits without a request");
        now = next;
    }
    for (delay, expected) in delays.iter().zip([60, 240, 960, 3600, 3600]) {
        assert!((expected * 3 / 4 - 1..=expected * 5 / 4).contains(delay), "{delays:?}");
    }
    assert_eq!(acme.states().next().unwrap().failures, 5);
    site.server.state().problem = None;
    assert_eq!(outcomes(&acme.step(now).await), ["obtained"]);
    assert_eq!(acme.states().next().unwrap().failures, 0);
}

#[tokio::test]
async fn a_failure_keeps_the_certificate_and_the_delay_of_the_server_is_observed() {
    let site = Site::new(90).await;
    let mut acme = site.gateway();
    acme.step(START).await;
    let before = acme.identities();
    site.server.state().problem = Some(("rateLimited", 429, "7200"));
    let due = START + 63 * DAY;
    let events = acme.step(due).await;
    assert_eq!(outcomes(&events), ["failed: the ACME server refused: refused by the test (rateLimited)"]);
    assert_eq!(retry_at(&events), due + 2 * HOUR);
    assert!(Arc::ptr_eq(&acme.identities()[0], &before[0]));
    // The server is reachable again when the certificate has expired.
    site.server.state().problem = None;
    site.issues(START + 91 * DAY, 90);
    assert_eq!(outcomes(&acme.step(START + 91 * DAY).await), ["obtained"]);
}

#[tokio::test]
async fn a_server_that_is_not_verified_gets_no_request() {
    let mut site = Site::new(90).await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    site.settings.tls = trusting(folder.path(), &other.cert.pem());
    let failed = outcomes(&site.gateway().step(START).await).join("");
    assert!(failed.starts_with("failed: the ACME server cannot be used: invalid peer certificate"), "{failed}");
    assert_eq!(site.server.state().requests, 0);
}

#[tokio::test]
async fn of_gateways_with_a_common_storage_one_orders_and_the_others_load() {
    let site = Site::new(90).await;
    let mut gateways = [site.gateway(), site.gateway(), site.gateway()];
    for start in [START, START + 70 * DAY] {
        site.issues(start, 90);
        let before = site.orders();
        let [one, two, three] = &mut gateways;
        tokio::join!(one.step(start), two.step(start), three.step(start));
        for gateway in &mut gateways {
            gateway.step(start).await;
        }
        assert_eq!(site.orders(), before + 1);
        let served: Vec<_> = gateways.iter().map(|gateway| gateway.identities()[0].certified.cert.clone()).collect();
        assert!(served.iter().all(|chain| *chain == served[0]));
        assert_eq!(gateways[0].identities()[0].not_after, start + 90 * DAY);
    }
    assert_eq!(outcomes(&site.gateway().load()), ["loaded"], "a further one");
    assert_eq!(site.server.state().accounts.len(), 1);
}

#[tokio::test]
async fn a_certificate_that_fails_does_not_affect_the_others() {
    let mut site = Site::new(90).await;
    site.settings.certificates = ["bad.example", "good.example"].map(|name| vec![name.to_owned()]).to_vec();
    site.server.state().refused_name = "bad.example";
    let mut acme = site.gateway();
    let failed = "failed: the ACME server refused: refused by the test (rejectedIdentifier)";
    assert_eq!(outcomes(&acme.step(START).await), [failed, "obtained"]);
    assert_eq!(acme.identities()[0].names, ["good.example"]);
    let failures: Vec<_> = acme.states().map(|state| (state.name.to_owned(), state.failures)).collect();
    assert_eq!(failures, [("bad.example".to_owned(), 1), ("good.example".to_owned(), 0)]);
    site.server.state().refused_name = "";
    assert_eq!(outcomes(&acme.step(START + HOUR).await), ["obtained"]);
    assert_eq!(acme.identities().len(), 2);
}

#[tokio::test]
async fn an_interrupted_order_leaves_neither_its_challenges_nor_the_lock() {
    let site = Site::new(90).await;
    site.server.state().stalls = true;
    let mut acme = site.gateway();
    let folder = site.settings.storage.join("challenges/http-01");
    let challenges = || std::fs::read_dir(&folder).unwrap().count();
    let published = async {
        while challenges() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // As when the gateway stops.
    tokio::select! {
        events = acme.step(START) => panic!("{events:?}"),
        () = published => {}
    }
    assert_eq!(challenges(), 0);
    site.server.state().stalls = false;
    assert_eq!(outcomes(&site.gateway().step(START).await), ["obtained"], "another gateway can order at once");
}

#[tokio::test]
async fn nothing_is_ordered_that_could_not_be_stored() {
    let site = Site::new(90).await;
    let mut acme = site.gateway();
    // Also as root, no file can replace a folder.
    let obstacle = site.settings.storage.join("certificates/space");
    std::fs::create_dir(&obstacle).unwrap();
    let events = acme.step(START).await;
    assert!(outcomes(&events)[0].contains("certificates/space: "), "{events:?}");
    assert_eq!(site.server.state().requests, 0);
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(outcomes(&acme.step(retry_at(&events)).await), ["obtained"]);
}

#[tokio::test]
async fn a_damaged_file_neither_ends_the_old_certificate_nor_lasts() {
    let site = Site::new(90).await;
    let mut acme = site.gateway();
    acme.step(START).await;
    let file = std::fs::read_dir(site.settings.storage.join("certificates")).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    std::fs::write(file.with_extension("new"), &good[..good.len() / 2]).unwrap();
    std::fs::rename(file.with_extension("new"), &file).unwrap();
    let events = outcomes(&acme.step(START + 1).await);
    assert!(events[0].starts_with("not loaded: the certificate www.example.org-"), "{events:?}");
    assert_eq!(acme.identities().len(), 1);
    // A gateway that starts with it obtains another one.
    let events = outcomes(&site.gateway().step(START + 2).await);
    assert_eq!(events[1], "obtained", "{events:?}");
    assert_eq!(outcomes(&acme.step(START + 3).await), ["loaded"]);
}
