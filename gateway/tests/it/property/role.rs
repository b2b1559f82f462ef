//! Whatever a route requires, a token claims and the backend returns: a service sees a request only if the effective
//! scopes meet the requirement of its method. The reference has sets of names and no parser.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use holodule_gateway::token::Digest;
use serde_json::{Value, json};

use crate::support::backend::{Backend, answer};
use crate::support::random::{self, Random};
use crate::support::revocation::RevocationStub;
use crate::support::token::{HEADER, now, signed};

/// Few names, of which some contain others or differ in case.
const NAMES: [&str; 6] = ["a", "A", "ab", "b", "a:b", "a,b"];
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "DELETE"];
const ROUTES: usize = 64;
const MACHINES: usize = 8;

type Names = BTreeSet<&'static str>;

fn names(random: &mut Random, at_least: usize) -> Names {
    let mut names: Names = NAMES.into_iter().filter(|_| random.one_in(3)).collect();
    while names.len() < at_least {
        names.insert(random.pick(&NAMES));
    }
    names
}

/// One or all of these.
#[derive(Clone)]
struct Required {
    all: bool,
    names: Names,
}

impl Required {
    fn random(random: &mut Random) -> Self {
        Self { all: random.one_in(2), names: names(random, 1) }
    }

    fn toml(&self) -> String {
        format!("{{ {} = {:?} }}", if self.all { "all" } else { "any" }, self.names)
            .replace("= {", "= [")
            .replace("} }", "] }")
    }

    fn is_met_by(&self, held: &Names) -> bool {
        if self.all { self.names.is_subset(held) } else { !self.names.is_disjoint(held) }
    }
}

/// A route: what it requires, and what single methods require instead.
struct Route {
    require: Option<Required>,
    methods: Vec<(&'static str, Required)>,
}

impl Route {
    fn random(random: &mut Random) -> Self {
        let require = random.one_in(2).then(|| Required::random(random));
        let methods = METHODS.into_iter().filter(|_| random.one_in(3)).collect::<Vec<_>>();
        Self { require, methods: methods.into_iter().map(|method| (method, Required::random(random))).collect() }
    }

    fn toml(&self, number: usize) -> String {
        let mut text = format!("{{ path = '/{number}', methods = {METHODS:?}");
        if let Some(require) = &self.require {
            write!(text, ", require = {}", require.toml()).unwrap();
        }
        let of_methods: Vec<_> =
            self.methods.iter().map(|(method, own)| format!("{method} = {}", own.toml())).collect();
        write!(text, ", require_methods = {{ {} }} }}", of_methods.join(", ")).unwrap();
        text
    }

    fn is_allowed(&self, method: &str, held: &Names) -> bool {
        let own = |wanted: &str| self.methods.iter().find(|(name, _)| *name == wanted).map(|(_, own)| own);
        let of_get = if method == "HEAD" { own("GET") } else { None };
        own(method).or(of_get).or(self.require.as_ref()).is_none_or(|required| required.is_met_by(held))
    }
}

fn word(machine: usize) -> String {
    format!("machine-{machine}")
}

/// The claims of a token with these scopes, in one of the accepted forms.
fn claims(random: &mut Random, identity: &str, scopes: &Names) -> Value {
    let now = now();
    let mut claims = json!({"exp": now + 300, "iat": now, "nbf": now, "identity": identity});
    let mut list: Vec<_> = scopes.iter().copied().collect();
    if random.one_in(2) {
        list.reverse();
    }
    let text = list.join(" ");
    match random.below(4) {
        0 => claims["scp"] = json!(list),
        1 => claims["scp"] = json!(text),
        2 => {
            claims["scope"] = json!(text);
            claims["scp"] = json!(list);
        }
        _ if scopes.is_empty() && random.one_in(2) => {}
        _ => claims["scope"] = json!(text),
    }
    claims
}

#[tokio::test]
async fn a_request_is_served_only_if_the_effective_scopes_meet_the_requirement() {
    let (first, cases) = (random::seed(), random::cases(600));
    // The same in every run, so that a seed is enough to repeat a case.
    let mut random = Random::new(18);
    let routes: Vec<_> = (0..ROUTES).map(|_| Route::random(&mut random)).collect();
    let machines: Vec<_> = (0..MACHINES).map(|_| names(&mut random, 0)).collect();
    let tables: Vec<_> = routes.iter().enumerate().map(|(number, route)| route.toml(number)).collect();
    let tokens = machines.iter().enumerate().map(|(number, scopes)| {
        let scopes: Vec<_> = scopes.iter().collect();
        format!(
            "{{ name = 'm{number}', sha256 = '{}', routes = ['*'], scopes = {scopes:?} }}",
            Digest::of(word(number).as_bytes())
        )
    });
    let tokens: Vec<_> = tokens.collect();
    let (route, static_token) = (format!("[{}]", tables.join(", ")), format!("[{}]", tokens.join(", ")));
    let (stub, admin) = RevocationStub::start().await;
    let service = Backend::start(|_| answer("200 OK", &[], "")).await;
    let settings = [("ROUTE", &*route), ("STATIC_TOKEN", &static_token), ("LIMIT_ADDRESS_RATE", "0")];
    let gateway = RevocationStub::gateway(&service, &admin, &settings);
    gateway.ready().await;
    let mut connection = gateway.connect().await;
    let (mut served, mut refused) = (0_u64, 0_u64);
    for number in 0..cases {
        let mut random = Random::new(first.wrapping_add(number));
        let (token, held) = if random.one_in(4) {
            let machine = random.below(MACHINES);
            (word(machine), machines[machine].clone())
        } else {
            let (identity, claimed) = (format!("u{number}"), names(&mut random, 0));
            let roles = random.one_in(2).then(|| names(&mut random, 0));
            if let Some(roles) = &roles {
                let status = json!({"active": true, "password_changed_at": null, "logged_out": [], "roles": roles});
                stub.set(&identity, status);
            }
            let token = signed(HEADER, &claims(&mut random, &identity, &claimed).to_string());
            (token, roles.unwrap_or(claimed))
        };
        let (place, method) = (random.below(ROUTES), random.pick(&METHODS));
        let request = format!(
            "{method} /{place} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = connection.exchange(&request).await;
        let is_allowed = routes[place].is_allowed(method, &held);
        let expected = if is_allowed { (200, 1) } else { (403, 0) };
        if (answer.status, service.seen().len()) != expected {
            random::report_seed("required scopes", first.wrapping_add(number));
            panic!("{method} of {} with {held:?}: {answer:?}", tables[place]);
        }
        service.forget();
        *if is_allowed { &mut served } else { &mut refused } += 1;
    }
    assert!(cases < 600 || (served > 0 && refused > 0), "{served} {refused}");
    random::executed("required scopes", cases);
}
