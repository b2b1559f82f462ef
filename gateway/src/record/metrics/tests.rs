use super::*;

fn page(metrics: &Metrics) -> String {
    String::from_utf8(metrics.page().unwrap()).unwrap()
}

#[test]
fn a_request_is_in_flight_until_its_guard_is_dropped() {
    let metrics = Metrics::new(&Labels::default()).unwrap();
    let guard = metrics.in_flight();
    assert!(page(&metrics).contains("gateway_requests_in_flight 1\n"));
    drop(guard);
    assert!(page(&metrics).contains("gateway_requests_in_flight 0\n"));
}

#[test]
fn requests_are_exposed_in_the_prometheus_text_format() {
    let metrics = Metrics::new(&Labels { routes: vec!["holodules"], ..Labels::default() }).unwrap();
    let (total, upstream) = (Duration::from_micros(1534), Some(Duration::from_micros(250)));
    metrics.request("holodules", &Method::GET, Some(StatusCode::OK), total, upstream);
    let page = page(&metrics);
    for line in [
        r#"gateway_requests_total{method="GET",route="holodules",status_class="2xx"} 1"#,
        "# TYPE gateway_request_duration_seconds histogram",
        r#"gateway_request_duration_seconds_bucket{route="holodules",le="0.001"} 0"#,
        r#"gateway_request_duration_seconds_bucket{route="holodules",le="0.0025"} 1"#,
        r#"gateway_request_duration_seconds_bucket{route="holodules",le="+Inf"} 1"#,
        r#"gateway_request_duration_seconds_sum{route="holodules"} 0.001534"#,
        r#"gateway_upstream_duration_seconds_bucket{route="holodules",le="0.00025"} 1"#,
        r#"gateway_upstream_duration_seconds_count{route="holodules"} 1"#,
    ] {
        assert!(page.lines().any(|actual| actual == line), "{line} is not in {page}");
    }
}
