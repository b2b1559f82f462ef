//! Benchmarks of the single stages of a request, without TLS, pingora and the network.
//!
//! `cargo bench -p holodule-gateway` prints the nanoseconds of each; `cargo bench -p holodule-gateway -- token` only
//! runs benchmarks with `token` in their name.
#![allow(clippy::panic, clippy::unwrap_used, clippy::print_stdout, reason = "a command-line program")]

use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use holodule_gateway::authenticate::{Accepted, authenticate};
use holodule_gateway::cache::{self, Cache, CacheKey, CacheLookup, CacheOutcome, CacheRequest, CacheStatus};
use holodule_gateway::client::Prefix;
use holodule_gateway::framing::CanonicalPath;
use holodule_gateway::framing::{self, RequestHead};
use holodule_gateway::limit::{Limiter, Quota};
use holodule_gateway::record::log::{self, Writer};
use holodule_gateway::record::{Access, Labels, Metrics};
use holodule_gateway::route::{Request, Route, RouteTable, Settings as RouteSettings, default_routes};
use holodule_gateway::token::{
    Digest, Key, Keys, Presented, Routes, Settings, StaticToken, StaticTokens, correlation_id,
};
use holodule_gateway::upstream::{self, Address, PublicAuthority, Timeouts, Upstream, UpstreamClient};
use http::header::{AUTHORIZATION, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use tracing::level_filters::LevelFilter;

const NOW: i64 = 1_700_000_000;
const ROUNDS: usize = 10_000;
const MEASUREMENTS: usize = 15;

/// The selected benchmarks: those whose name contains one of the words, or all if there are none.
struct Benches {
    words: Vec<String>,
}

impl Benches {
    fn is_selected(&self, what: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| what.contains(word))
    }

    /// Prints and returns the nanoseconds per round: the minimum of several measurements, which is affected least
    /// by other programs. `None` if it is not selected.
    fn measure(&self, what: &str, mut round: impl FnMut(usize)) -> Option<f64> {
        if !self.is_selected(what) {
            return None;
        }
        let measured = (0..MEASUREMENTS).map(|_| {
            // Lets background work of the previous rounds finish, such as writing the log.
            thread::sleep(Duration::from_millis(20));
            let began = Instant::now();
            (0..ROUNDS).for_each(&mut round);
            began.elapsed().as_secs_f64() * 1e9 / ROUNDS as f64
        });
        let least = measured.fold(f64::INFINITY, f64::min);
        println!("{what}: {least:.0} ns");
        Some(least)
    }

    /// Like [`measure`](Self::measure), alone and then while another thread runs the same rounds. Contention is far
    /// higher than between requests.
    fn measure_with_contention(&self, what: &str, round: impl Fn(usize) + Sync) {
        self.measure(what, &round);
        if !self.is_selected(what) {
            return;
        }
        let has_ended = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| (0..).take_while(|_| !has_ended.load(Ordering::Relaxed)).for_each(&round));
            self.measure(&format!("{what}, with contention"), &round);
            has_ended.store(true, Ordering::Relaxed);
        });
    }
}

fn main() {
    // Cargo passes `--bench`.
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let benches = Benches { words };
    tokens(&benches);
    framing(&benches);
    routes(&benches);
    limits(&benches);
    cache(&benches);
    records(&benches);
}

/// Verification of tokens: new, verified before, forged, too long, and static.
fn tokens(benches: &Benches) {
    let settings = Settings { lifetime: 300, leeway: 0, max_lifetime: 3600 };
    let keys = || Keys::new(vec![Key::named("2026-11", &[7; 32]).unwrap()], settings).unwrap();
    let issuer = keys();
    // More tokens than the table of verified tokens holds, so that each is new.
    let tokens: Vec<String> =
        (0..4 * ROUNDS).map(|number| issuer.issue("user01", &format!("{number:032x}"), NOW).unwrap()).collect();
    let token = |number: usize| tokens.get(number % tokens.len()).unwrap().as_bytes();
    let verify = |keys: &Keys, token: &[u8]| keys.verify(&Presented::new(black_box(token)).unwrap(), NOW).is_ok();

    let mut next = 0;
    let verifier = keys();
    benches.measure("token, new", |_| {
        next += 1;
        assert!(verify(&verifier, token(next)));
    });
    benches.measure_with_contention("token, seen, always the same", |_| assert!(verify(&verifier, token(1))));
    let verifier = keys();
    (0..1000).for_each(|number| assert!(verify(&verifier, token(number))));
    benches.measure("token, seen, one of a thousand", |number| assert!(verify(&verifier, token(number % 1000))));
    let forger = Keys::new(vec![Key::named("2026-11", &[8; 32]).unwrap()], settings).unwrap();
    let forged = forger.issue("user01", "0", NOW).unwrap();
    benches.measure("token, forged", |_| assert!(!verify(&verifier, forged.as_bytes())));
    let accepted = Accepted { keys: Arc::new(verifier), static_tokens: StaticTokens::default() };
    let value = HeaderValue::try_from(format!("JWT {}", tokens.get(1).unwrap())).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    benches.measure("token, seen, in a header", |_| assert!(authenticate(black_box(&headers), &accepted, NOW).is_ok()));
    let long = vec![b'a'; 9 * 1024];
    benches.measure("token, too long", |_| assert!(Presented::new(black_box(&long)).is_err()));

    for count in [1, 1024] {
        let secret = |number: usize| format!("holodule_{number:064x}");
        let known = (0..count).map(|number| {
            StaticToken::new(&number.to_string(), Digest::of(secret(number).as_bytes()), Routes::All, None).unwrap()
        });
        let known = StaticTokens::new(known.collect()).unwrap();
        let secret = secret(count / 2);
        benches.measure(&format!("token, static, of {count}"), |_| {
            assert!(known.find(&Presented::new(black_box(secret.as_bytes())).unwrap()).is_some());
        });
    }
}

/// Checks of a typical HTTP/1.1 head with a token.
fn framing(benches: &Benches) {
    let raw = format!(
        "GET /holodules/20201209 HTTP/1.1\r\nHost: localhost:8443\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAuthorization: JWT {}\r\n\r\n",
        "a".repeat(240)
    );
    let settings = framing::Settings::default();
    benches.measure("framing, the end of a head", |_| {
        assert!(framing::end_of_head(black_box(raw.as_bytes()), 0).is_some());
    });
    benches.measure("framing, a received head", |_| {
        assert!(framing::check_head(black_box(raw.as_bytes()), &settings).is_ok());
    });
    benches.measure("framing, a received head, with parsing", |_| {
        assert!(framing::read_head(black_box(raw.as_bytes()), &settings).is_ok_and(|(_, request)| request.is_some()));
    });
    let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost:8443"))]);
    let uri = Uri::from_static("/holodules/20201209");
    benches.measure("framing, a parsed head", |_| {
        let head =
            RequestHead { method: &Method::GET, uri: black_box(&uri), version: Version::HTTP_11, headers: &headers };
        assert!(framing::inspect(head, &settings).is_ok());
    });
}

/// Route lookup by path.
fn routes(benches: &Benches) {
    let routes = default_routes().iter().map(|settings| Arc::new(Route::try_from(settings).unwrap())).collect();
    let table = RouteTable::new(routes, vec!["/holoapi".to_owned()]);
    for (what, path) in [("", "/holodules/20201209"), (" by its alias", "/holoapi/Holodules/20201209")] {
        benches.measure(&format!("route, found{what}"), |_| {
            let path = table.strip(CanonicalPath::parse(black_box(path)).unwrap());
            let request = Request { host: "localhost", method: &Method::GET, path, query: None };
            assert!(table.find(|_| true, request).is_ok());
        });
    }
    for (what, pattern) in [
        ("different first segments", "/service{}/v1/{id}"),
        ("the same first segments", "/api/v1/service{}/{id}"),
        ("tails", "/service{}/{*rest}"),
    ] {
        let (few, many) = (route_of(benches, what, pattern, 10), route_of(benches, what, pattern, 1000));
        if let (Some(few), Some(many)) = (few, many) {
            println!("route, 1000 routes to 10, {what}: {:.2} times, {:+.0} ns", many / few, many - few);
        }
    }
}

/// The cost of a match in a table of `count` routes, one after the other, whose patterns have their number for `{}`.
fn route_of(benches: &Benches, what: &str, pattern: &str, count: usize) -> Option<f64> {
    let route = |number: usize| {
        let path = pattern.replace("{}", &number.to_string());
        let settings = RouteSettings { methods: vec!["GET".to_owned()], path, ..RouteSettings::default() };
        Arc::new(Route::try_from(&settings).unwrap())
    };
    let table = RouteTable::new((0..count).map(route).collect(), Vec::new());
    let filled = |number: usize| pattern.replace("{}", &number.to_string()).replace(['{', '}', '*'], "");
    let paths: Vec<_> = (0..count).map(filled).collect();
    benches.measure(&format!("route, one of {count}, {what}"), |number| {
        let path = CanonicalPath::parse(black_box(paths.get(number % count).unwrap())).unwrap();
        let request = Request { host: "localhost", method: &Method::GET, path, query: None };
        assert!(table.find(|_| true, request).is_ok());
    })
}

/// Rate limits.
fn limits(benches: &Benches) {
    let quota = Quota { rate: 1_000_000, burst: 1_000_000 };
    let limiter = Limiter::new(quota);
    let began = Instant::now();
    let address = |number: usize| Prefix::from(IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()));
    for (what, addresses) in [("the same address", 1), ("one of a thousand addresses", 1000)] {
        benches.measure(&format!("limit, {what}"), |number| {
            assert!(limiter.take(&address(number % addresses), began.elapsed()).is_ok());
        });
    }
    let mut next = 0;
    benches.measure("limit, a new address", |_| {
        next += 1;
        assert!(limiter.take(&address(next), began.elapsed()).is_ok());
    });
}

/// A cached response of 5 KB.
fn cache(benches: &Benches) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The cache spawns tasks.
    let _entered = runtime.enter();
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Inet(backend.local_addr().unwrap());
    thread::spawn(move || serve_one(&backend));
    let second = Duration::from_secs(1);
    let upstream = upstream::Settings {
        connect_timeout: second,
        read_timeout: second,
        request_timeout: second,
        idle_timeout: second,
        max_connections: 1,
    };
    let client = UpstreamClient::new(Arc::new(Upstream::new("api", address, upstream)));
    let settings = cache::Settings { max_bytes: 64 << 20, max_body_bytes: 1 << 20, wait_timeout: second };
    let cache = Cache::new(settings);
    let target = "/holodules/20201209";
    let declared: Arc<[HeaderName]> = Arc::new([]);
    let find = || {
        let key = CacheKey::new(
            cache::KeyParts { host: "localhost:8443", route: "holodules", target, identity: None },
            iter::empty(),
        );
        let public =
            PublicAuthority { authority: "localhost:8443", is_forwarded: false, needs_token: true, prefixes: None };
        let (target, backend) = (black_box(target), &client);
        let timeouts = Timeouts::default();
        let request = CacheRequest {
            purge_key: target,
            public,
            declared: &declared,
            has_identity: false,
            timeouts,
            compresses: false,
            backend,
        };
        cache.lookup(&key, request, || {
            let (parts, ()) = http::Request::get(target).body(())?.into_parts();
            Ok(parts)
        })
    };
    let CacheLookup::Pending(pending) = find() else { panic!("an outcome before the first request to the backend") };
    assert!(matches!(runtime.block_on(pending.outcome()), CacheOutcome::Served(_, CacheStatus::Miss)));
    benches.measure_with_contention("cache, a hit", |_| {
        assert!(matches!(find(), CacheLookup::Ready(CacheOutcome::Served(_, CacheStatus::Hit))));
    });
}

/// A backend that responds to one request; another one would fail.
fn serve_one(backend: &TcpListener) {
    let (mut stream, _) = backend.accept().unwrap();
    let mut head = [0; 4096];
    assert!(stream.read(&mut head).unwrap() > 0);
    let fields = "Content-Type: application/json\r\nCache-Control: public, s-maxage=3600\r\nContent-Length: 5120";
    write!(stream, "HTTP/1.1 200 OK\r\n{fields}\r\nETag: \"a\"\r\n\r\n{}", "a".repeat(5120)).unwrap();
}

/// The request ID, metrics and access log line of a request.
fn records(benches: &Benches) {
    benches.measure("record, a request id", |_| {
        black_box(correlation_id().unwrap());
    });
    let metrics = Metrics::new(&Labels { routes: vec!["auth", "holodules", "none"], ..Labels::default() }).unwrap();
    let (total, upstream) = (Duration::from_micros(1534), Some(Duration::from_micros(1234)));
    benches.measure_with_contention("record, metrics", |_| {
        let _in_flight = metrics.in_flight();
        metrics.request(black_box("holodules"), &Method::GET, Some(StatusCode::OK), total, upstream);
    });
    let settings = log::Settings { format: log::Format::Json, level: LevelFilter::INFO };
    let writer = Writer::to(io::sink(), settings).unwrap();
    let access_log = writer.access();
    let request_id = correlation_id().unwrap();
    benches.measure("record, an access line", |_| {
        access_log.write(&Access {
            request_id: &request_id,
            trace_id: None,
            client: IpAddr::from([203, 0, 113, 7]),
            method: &Method::GET,
            route: "holodules",
            path: Some("/holodules/20201209"),
            query: None,
            protocol: Some("HTTP/1.1"),
            tls: Some("1.3"),
            user_agent: Some(b"okhttp/4.12.0"),
            status: Some(StatusCode::OK),
            upstream,
            total,
            identity: Some("user01"),
            bytes: 5120,
            tunnel: None,
            cache: Some("hit"),
            reason: None,
        });
    });
    if writer.lines().lost() > 0 {
        println!("{} lines were dropped, which is faster than writing them", writer.lines().lost());
    }
}
