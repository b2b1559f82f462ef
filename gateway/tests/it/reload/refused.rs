//! A reload that fails changes nothing, and what a reload cannot change is named.

use holodule_gateway::config::Problems;
use holodule_gateway::server::NotReloaded;

use crate::support::client::Connection;
use crate::support::{DAY, Gateway, admin, api, get};

const ROUTE: &str = "[{ name = 'new', path = '/new', methods = ['GET'], cache = false }]";

#[tokio::test]
async fn one_invalid_key_keeps_all_others_from_changing() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let mut connection = gateway.connect().await;
    let mut unchanged = async || {
        let day = connection.exchange(get(DAY, "")).await;
        assert_eq!((day.status, day.value("strict-transport-security")), (200, "max-age=31536000"));
        assert_eq!(connection.exchange(get("/new", "")).await.status, 404);
        assert_eq!(connection.exchange("GET / HTTP/1.1\r\nHost: new.example\r\n\r\n").await.status, 421);
    };
    unchanged().await;
    let metric = "gateway_config_last_reload_successful";
    let valid = [("ROUTE", ROUTE), ("HSTS_MAX_AGE", "1"), ("HOSTS", "['new.example']"), ("LIMIT_ADDRESS_BURST", "1")];
    for invalid in [
        ("REQUEST_MAX_TARGET_BYTES", "0"),
        ("SERVICE", "[{ name = 'a', addresses = [] }]"),
        ("TLS_CERTIFICATE", "/missing.pem"),
        ("STREAM_GRACE", "soon"),
    ] {
        let gateway = &gateway;
        let before = gateway.settings();
        let settings: Vec<_> = valid.into_iter().chain([invalid]).collect();
        let Err(NotReloaded::Config(Problems(problems))) = gateway.reload(&settings) else { panic!("{invalid:?}") };
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(gateway.metric(metric).await, Some(0.0));
        unchanged().await;
        gateway.set_settings(before);
    }
    gateway.reload(&valid).unwrap();
    assert_eq!(gateway.metric(metric).await, Some(1.0));
    assert_eq!(Connection::open_from(9, gateway.https).await.exchange(get("/new", "")).await.status, 200);
}

#[tokio::test]
async fn what_needs_an_upgrade_is_named_until_it_is_as_it_was() {
    let (api, admin) = (api().await, admin().await);
    let gateway = Gateway::start(&api, &admin);
    let result = gateway.reload(&[("LISTENER_WORKERS", "2"), ("HSTS_MAX_AGE", "1")]).unwrap();
    assert_eq!(result.changed, ["hsts.max_age", "listener.workers"]);
    assert_eq!(result.need_upgrade, ["listener.workers"]);
    let result = gateway.reload(&[("UPSTREAM_READ_TIMEOUT", "7"), ("LOG_FORMAT", "json")]).unwrap();
    assert_eq!(result.changed, ["log.format", "upstream.read_timeout"]);
    assert_eq!(result.need_upgrade, ["listener.workers", "log.format", "upstream.read_timeout"]);
    let result = gateway.reload(&[("LISTENER_WORKERS", "1"), ("OPS_ADDR", "127.0.0.1:1")]).unwrap();
    assert_eq!(result.need_upgrade, ["log.format", "ops_addr", "upstream.read_timeout"]);
    assert_eq!(gateway.ops("/healthz").await.0, 200);
    assert_eq!(gateway.reload(&[]).unwrap().changed, [""; 0]);
}
