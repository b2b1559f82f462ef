use std::collections::BTreeMap;

use http::header::{COOKIE, SET_COOKIE};
use tokio::time::advance;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn balancer(policy: Policy, weights: &[u32]) -> Balancer {
    let addresses: Vec<_> = (1..=weights.len()).map(|number| format!("10.0.0.{number}:80")).collect();
    let balancing = Balancing { policy, weights: weights.to_vec(), ..Balancing::default() };
    Balancer::new("app", &addresses, &balancing)
}

fn parts(path: &str, headers: &[(&'static str, &str)]) -> Parts {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = path.parse().unwrap();
    for (name, value) in headers {
        parts.headers.append(*name, value.parse().unwrap());
    }
    parts
}

/// The addresses of a request in the order in which they are tried.
fn order(balancer: &Balancer, parts: &mut Parts) -> Vec<usize> {
    let mut choice = balancer.choose(parts);
    std::iter::from_fn(|| choice.next()).collect()
}

fn any_order(balancer: &Balancer) -> Vec<usize> {
    order(balancer, &mut parts("/", &[]))
}

/// How many of `count` requests go to each address first.
fn firsts(balancer: &Balancer, count: usize) -> BTreeMap<usize, usize> {
    let mut firsts = BTreeMap::new();
    for _ in 0..count {
        *firsts.entry(balancer.choose(&mut parts("/", &[])).next().unwrap()).or_default() += 1;
    }
    firsts
}

fn fail(balancer: &Balancer, place: usize, count: usize) {
    (0..count).for_each(|_| balancer.failed(place, Failure::Closed));
}

fn ejections(balancer: &Balancer) -> Vec<u64> {
    balancer.figures().iter().map(|figures| figures.ejections).collect()
}

fn is_ejected(balancer: &Balancer, place: usize) -> bool {
    balancer.figures()[place].is_ejected
}

#[tokio::test]
async fn a_round_robin_follows_the_weights_and_tries_each_address_once() {
    let balancer = balancer(Policy::RoundRobin, &[1, 3, 0]);
    let (mut seen, mut sets) = (BTreeMap::<usize, usize>::new(), Vec::new());
    for _ in 0..400 {
        let mut choice = balancer.choose(&mut parts("/", &[]));
        *seen.entry(choice.next().unwrap()).or_default() += 1;
        sets.push(choice.untried());
    }
    assert_eq!(seen, BTreeMap::from([(0, 100), (1, 300)]));
    assert!(sets.iter().all(|untried| *untried == 2));
    let mut order = any_order(&balancer);
    order.sort_unstable();
    assert_eq!(order, [0, 1], "the third is drained");
}

#[tokio::test]
async fn an_unhealthy_address_is_the_last_resort() {
    for policy in [
        Policy::Failover,
        Policy::RoundRobin,
        Policy::LeastConnections,
        Policy::ConsistentHash(HashBy::Path),
        Policy::Sticky("at".to_owned()),
    ] {
        let balancer = balancer(policy.clone(), &[1, 1, 1]);
        balancer.checked(1, false, true);
        for _ in 0..6 {
            let order = any_order(&balancer);
            assert_eq!((order.len(), order[2]), (3, 1), "{policy:?}");
        }
        [0, 2].into_iter().for_each(|place| balancer.checked(place, false, true));
        assert_eq!(any_order(&balancer).len(), 3, "{policy:?}: all are down, and tried");
    }
}

#[tokio::test]
async fn the_least_loaded_address_for_its_weight_is_chosen() {
    let balancer = balancer(Policy::LeastConnections, &[1, 2, 0]);
    let begin = |place: usize| balancer.address(place).unwrap().begin();
    let mut chosen = Vec::new();
    for _ in 0..9 {
        let place = any_order(&balancer)[0];
        begin(place);
        chosen.push(place);
    }
    assert_eq!(chosen.iter().filter(|place| **place == 0).count(), 3);
    assert_eq!(chosen.iter().filter(|place| **place == 1).count(), 6);
    (0..3).for_each(|_| balancer.address(0).unwrap().end());
    assert_eq!(balancer.figures()[0].in_flight, 0);
    assert_eq!(any_order(&balancer)[0], 0);
}

#[tokio::test]
async fn equally_loaded_addresses_take_turns() {
    let balancer = balancer(Policy::LeastConnections, &[1, 1, 1]);
    assert_eq!(firsts(&balancer, 300), BTreeMap::from([(0, 100), (1, 100), (2, 100)]));
}

#[tokio::test]
async fn a_hash_is_of_the_path_or_of_the_identity() {
    let by_path = balancer(Policy::ConsistentHash(HashBy::Path), &[1; 8]);
    let by_identity = balancer(Policy::ConsistentHash(HashBy::Identity), &[1; 8]);
    let user = |name: &'static str| [("x-auth-identity", name), ("x-forwarded-for", "10.0.0.1")];
    let first = |balancer: &Balancer, path: &str, headers: &[(&'static str, &str)]| {
        order(balancer, &mut parts(path, headers))[0]
    };
    let paths: Vec<_> = (0..50).map(|number| format!("/{number}")).collect();
    let distinct = |places: Vec<usize>| std::collections::BTreeSet::from_iter(places).len();
    assert!(distinct(paths.iter().map(|path| first(&by_path, path, &user("a"))).collect()) > 4);
    for path in &paths {
        assert_eq!(first(&by_path, path, &user("a")), first(&by_path, &format!("{path}?query"), &user("b")));
        assert_eq!(first(&by_identity, path, &user("a")), first(&by_identity, "/", &user("a")));
        // Without an identity, the client address.
        let client = [("x-forwarded-for", "10.0.0.9")];
        assert_eq!(first(&by_identity, path, &client), first(&by_identity, "/", &client));
        // Without either, the path.
        assert_eq!(first(&by_identity, path, &[]), first(&by_path, path, &[]));
    }
}

#[tokio::test]
async fn a_sticky_request_stays_at_its_address_while_it_is_healthy_even_if_drained() {
    let balancer = balancer(Policy::Sticky("at".to_owned()), &[1, 1, 0]);
    let cookie = |place: usize| {
        let cookie = balancer.sticky.as_ref().unwrap().cookie(place).unwrap().set_cookie("/").unwrap();
        cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
    };
    for place in [1, 2, 1] {
        let mut parts = parts("/", &[("cookie", &format!("a=b; {}", cookie(place)))]);
        let mut choice = balancer.choose(&mut parts);
        assert_eq!(choice.next(), Some(place));
        assert_eq!(parts.headers[COOKIE], "a=b");
        assert_eq!(balancer.cookie(&choice, place), None);
        assert!(balancer.cookie(&choice, 0).is_some());
    }
    assert_eq!(firsts(&balancer, 100), BTreeMap::from([(0, 50), (1, 50)]), "none is new at the drained address");
    balancer.checked(2, false, true);
    let mut parts = parts("/", &[("cookie", &cookie(2))]);
    let mut choice = balancer.choose(&mut parts);
    let first = choice.next().unwrap();
    assert!(first < 2 && balancer.cookie(&choice, first).is_some());
    assert!(!parts.headers.contains_key(SET_COOKIE) && !parts.headers.contains_key(COOKIE));
}

#[tokio::test]
async fn failover_stays_with_the_address_that_was_reached() {
    let balancer = balancer(Policy::Failover, &[]);
    assert_eq!(any_order(&balancer), [0; 0]);
    let balancer = self::balancer(Policy::Failover, &[1, 1, 1]);
    assert_eq!((any_order(&balancer), any_order(&balancer)), (vec![0, 1, 2], vec![0, 1, 2]));
    balancer.failed(0, Failure::Connect);
    assert_eq!(any_order(&balancer), [1, 2, 0]);
    balancer.connected(2, SECOND);
    assert_eq!(any_order(&balancer), [2, 0, 1]);
    balancer.failed(2, Failure::Response);
    assert_eq!(any_order(&balancer), [2, 0, 1], "a late response is no reason to change");
    balancer.failed(2, Failure::Closed);
    assert_eq!(any_order(&balancer), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_and_the_time_doubles_up_to_a_limit() {
    let balancer = balancer(Policy::RoundRobin, &[1, 1]);
    fail(&balancer, 0, 4);
    balancer.succeeded(0);
    fail(&balancer, 0, 4);
    assert!(!is_ejected(&balancer, 0));
    balancer.failed(0, Failure::Closed);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(firsts(&balancer, 4), BTreeMap::from([(1, 4)]));
        advance(SECOND * seconds - Duration::from_millis(1)).await;
        assert!(is_ejected(&balancer, 0), "{seconds}");
        advance(Duration::from_millis(2)).await;
        assert!(!is_ejected(&balancer, 0), "{seconds}");
        assert_eq!(firsts(&balancer, 4), BTreeMap::from([(0, 2), (1, 2)]));
        // One more is enough, since there was no success.
        balancer.failed(0, Failure::Closed);
    }
    balancer.succeeded(0);
    advance(SECOND * 121).await;
    fail(&balancer, 0, 5);
    advance(SECOND + Duration::from_millis(1)).await;
    assert!(!is_ejected(&balancer, 0), "after a long time without an ejection, the first time applies");
}

#[tokio::test(start_paused = true)]
async fn never_more_than_half_of_the_addresses_are_ejected() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let balancer = balancer(Policy::RoundRobin, &vec![1; count]);
        (0..count).for_each(|place| fail(&balancer, place, 20));
        assert_eq!(ejections(&balancer).iter().sum::<u64>(), most, "{count}");
    }
    // An address that is down counts.
    let balancer = balancer(Policy::RoundRobin, &[1, 1, 1]);
    balancer.checked(0, false, true);
    fail(&balancer, 1, 20);
    assert_eq!(ejections(&balancer), [0, 0, 0]);
}

#[test]
fn addresses_that_fail_at_once_are_not_all_ejected() {
    const ROUNDS: usize = 3000;
    let ejection = Ejection { after: 1, time: 600 * SECOND, ..Ejection::default() };
    let balancing = Balancing { policy: Policy::RoundRobin, weights: vec![1; 2], ejection, max_queue: None };
    let addresses = ["10.0.0.1:80".to_owned(), "10.0.0.2:80".to_owned()];
    let balancers: Vec<_> = (0..ROUNDS).map(|_| Balancer::new("app", &addresses, &balancing)).collect();
    let arrived: Vec<_> = (0..ROUNDS).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for place in 0..2 {
            let (balancers, arrived) = (&balancers, &arrived);
            scope.spawn(move || {
                for (balancer, arrived) in balancers.iter().zip(arrived) {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    while arrived.load(Ordering::SeqCst) < 2 {
                        std::thread::yield_now();
                    }
                    balancer.failed(place, Failure::Closed);
                }
            });
        }
    });
    let both = balancers.iter().filter(|balancer| ejections(balancer) == [1, 1]).count();
    assert_eq!(both, 0, "of {ROUNDS}");
}

#[tokio::test(start_paused = true)]
async fn the_verdict_of_a_health_check_wins_over_an_ejection() {
    for (failure, is_request, ends) in
        [(Failure::Closed, true, true), (Failure::Connect, false, true), (Failure::Response, false, false)]
    {
        let balancer = balancer(Policy::RoundRobin, &[1, 1]);
        (0..5).for_each(|_| balancer.failed(0, failure));
        assert!(is_ejected(&balancer, 0));
        balancer.checked(0, true, is_request);
        assert_eq!(is_ejected(&balancer, 0), !ends, "{failure:?} {is_request}");
        balancer.checked(0, false, is_request);
        assert_eq!(any_order(&balancer)[0], 1);
    }
    // Failures between checks are not forgotten while it is not ejected.
    let balancer = balancer(Policy::RoundRobin, &[1, 1]);
    for _ in 0..5 {
        balancer.failed(0, Failure::Closed);
        balancer.checked(0, true, true);
    }
    assert_eq!(ejections(&balancer), [1, 0]);
}

#[tokio::test]
async fn only_one_request_waits_for_addresses_that_are_down_and_do_not_respond() {
    for count in [1, 3] {
        let balancer = balancer(Policy::LeastConnections, &vec![1; count]);
        for place in 0..count {
            balancer.failed(place, Failure::Silent);
            assert_eq!(any_order(&balancer).len(), count, "it is not known to be down");
        }
        (0..count).for_each(|place| balancer.checked(place, false, false));
        let mut waiting = balancer.choose(&mut parts("/", &[]));
        let first = waiting.next().unwrap();
        assert_eq!(any_order(&balancer).len(), count - 1);
        while waiting.next().is_some() {}
        assert_eq!(any_order(&balancer), [0; 0]);
        // Its connection was made, so that the others need not wait.
        balancer.connected(first, SECOND);
        assert_eq!(any_order(&balancer), [first]);
        drop(waiting);
        assert_eq!(any_order(&balancer).len(), count);
    }
}
