use super::*;

const SETTINGS: LoginSettings = LoginSettings {
    address: Some(Window { failures: 20, length: Duration::from_secs(60) }),
    name: Some(Backoff { failures: 10, delay: Duration::from_secs(1), max_delay: Duration::from_secs(60) }),
};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An attempt that ends at once.
fn attempt(throttle: &Throttle, address: u32, name: &str, now: Duration, ending: Ending) -> Result<(), Throttled> {
    throttle.begin(&address, name, now)?.ended(ending, now);
    Ok(())
}

fn fail(throttle: &Throttle, address: u32, name: &str, now: Duration) -> Result<(), Throttled> {
    attempt(throttle, address, name, now, Ending::Failed)
}

fn succeed(throttle: &Throttle, address: u32, name: &str, now: Duration) -> Result<(), Throttled> {
    attempt(throttle, address, name, now, Ending::Succeeded)
}

#[test]
fn the_twenty_first_failure_of_an_address_within_a_minute_is_refused() {
    let throttle = Throttle::new(&SETTINGS);
    for number in 0..20 {
        assert_eq!(fail(&throttle, 1, &format!("user{number}"), at(number)), Ok(()));
    }
    assert_eq!(fail(&throttle, 1, "another", at(20)), Err(Throttled::Address(at(40))));
    assert_eq!(succeed(&throttle, 1, "yet another", at(59)), Err(Throttled::Address(at(1))));
    assert_eq!(fail(&throttle, 2, "another", at(20)), Ok(()), "another address");
    assert_eq!(fail(&throttle, 1, "another", at(60)), Ok(()), "the first no longer counts");
    assert_eq!(fail(&throttle, 1, "another", at(60)), Err(Throttled::Address(at(1))));
}

#[test]
fn the_eleventh_failure_of_a_name_is_refused() {
    let throttle = Throttle::new(&SETTINGS);
    for address in 0..10 {
        assert_eq!(fail(&throttle, address, "user01", at(9)), Ok(()));
    }
    assert_eq!(fail(&throttle, 10, "user01", at(9)), Err(Throttled::Name(at(1))));
    assert_eq!(fail(&throttle, 10, "user02", at(9)), Ok(()), "another name");
    assert_eq!(fail(&throttle, 10, "user01", at(10)), Ok(()), "after the delay");
    assert_eq!(fail(&throttle, 11, "user01", at(10)), Err(Throttled::Name(at(2))));
}

#[test]
fn a_known_pair_cannot_be_locked_out() {
    let throttle = Throttle::new(&SETTINGS);
    assert_eq!(succeed(&throttle, 1, "user01", at(0)), Ok(()));
    for second in 0..3600 {
        for address in 2..50 {
            let _ = fail(&throttle, address, "user01", at(second));
        }
        if second % 60 == 0 {
            assert_eq!(succeed(&throttle, 1, "user01", at(second)), Ok(()), "at {second}");
        }
    }
    assert!(matches!(succeed(&throttle, 60, "user01", at(3600)), Err(Throttled::Name(_))), "from a new address");
}

#[test]
fn a_known_pair_has_its_own_failures() {
    let throttle = Throttle::new(&SETTINGS);
    assert_eq!(succeed(&throttle, 1, "user01", at(0)), Ok(()));
    for _ in 0..10 {
        assert_eq!(fail(&throttle, 1, "user01", at(0)), Ok(()));
    }
    assert_eq!(fail(&throttle, 1, "user01", at(0)), Err(Throttled::Name(at(1))));
    assert_eq!(fail(&throttle, 2, "user01", at(0)), Ok(()), "and they are none of its name's");
}

#[test]
fn successful_logins_neither_count_nor_reset_failures() {
    let throttle = Throttle::new(&SETTINGS);
    for number in 0..5000 {
        assert_eq!(succeed(&throttle, 1, "user01", Duration::from_millis(number)), Ok(()));
    }
    for number in 0..20 {
        assert_eq!(fail(&throttle, 1, &format!("user{number}"), at(5)), Ok(()));
        let good = succeed(&throttle, 1, "user01", at(5));
        assert_eq!(good.is_ok(), number < 19, "after {number}: {good:?}");
    }
    assert_eq!(fail(&throttle, 1, "another", at(5)), Err(Throttled::Address(at(60))));
}

#[test]
fn an_unknown_result_is_not_a_failure() {
    let throttle = Throttle::new(&SETTINGS);
    for _ in 0..1000 {
        assert_eq!(attempt(&throttle, 1, "user01", at(0), Ending::Unknown), Ok(()));
    }
}

#[test]
fn a_dropped_attempt_counts_as_failed() {
    let throttle = Throttle::new(&SETTINGS);
    for _ in 0..10 {
        drop(throttle.begin(&1, "user01", at(0)).unwrap());
    }
    assert_eq!(fail(&throttle, 2, "user01", at(0)), Err(Throttled::Name(at(1))));
}

#[test]
fn concurrent_attempts_cannot_exceed_the_limit() {
    let throttle = Throttle::new(&SETTINGS);
    let mut pending = Vec::new();
    for number in 0..100 {
        match throttle.begin(&1, &format!("user{number}"), at(0)) {
            Ok(attempt) => pending.push(attempt),
            Err(throttled) => assert_eq!(throttled, Throttled::Busy),
        }
    }
    assert_eq!(pending.len(), 20);
    let last = pending.pop().unwrap();
    last.ended(Ending::Succeeded, at(1));
    let last = throttle.begin(&1, "one more", at(1)).unwrap();
    assert_eq!(fail(&throttle, 1, "two more", at(1)), Err(Throttled::Busy));
    pending.push(last);
    for attempt in pending {
        attempt.ended(Ending::Failed, at(2));
    }
    assert_eq!(fail(&throttle, 1, "another", at(2)), Err(Throttled::Address(at(60))));
}

#[test]
fn an_attempt_refused_for_the_name_is_not_pending_for_the_address() {
    let throttle = Throttle::new(&SETTINGS);
    for address in 2..12 {
        fail(&throttle, address, "user01", at(0)).unwrap();
    }
    for _ in 0..100 {
        assert_eq!(fail(&throttle, 1, "user01", at(0)), Err(Throttled::Name(at(1))));
    }
    for number in 0..20 {
        assert_eq!(fail(&throttle, 1, &format!("other{number}"), at(0)), Ok(()));
    }
}

#[test]
fn failures_on_several_threads_are_counted() {
    let throttle = Throttle::new(&SETTINGS);
    let let_through = || (0..2000).filter(|_| fail(&throttle, 1, "user01", at(0)).is_ok()).count();
    let total: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(let_through)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(total, 10);
}

#[test]
fn displacing_entries_does_not_reset_failures() {
    let throttle = Throttle::new(&SETTINGS);
    for number in 0..20 {
        fail(&throttle, 1, &format!("user{number}"), at(0)).unwrap();
    }
    for address in 0..10 {
        fail(&throttle, 100 + address, "user01", at(0)).unwrap();
    }
    for number in 0..1_000_000 {
        let _ = fail(&throttle, 1000 + number, &format!("name{number}"), Duration::from_millis(500));
    }
    let soon = Duration::from_millis(900);
    assert!(matches!(fail(&throttle, 1, "another", soon), Err(Throttled::Address(_))));
    assert!(matches!(fail(&throttle, 2_000_000, "user01", soon), Err(Throttled::Name(_) | Throttled::Address(_))));
}

#[test]
fn tables_have_the_documented_size() {
    let Throttle { addresses: Some((window, addresses)), names: Some(names), .. } = Throttle::new(&SETTINGS) else {
        panic!("both are limited")
    };
    let latest = (LOGIN_ADDRESSES + LOGIN_ADDRESSES / super::super::table::WAYS) * window.failures as usize * 8;
    assert!(addresses.bytes() + latest <= 1750 * 1024, "{} and {latest} bytes", addresses.bytes());
    assert!(names.unknown.bytes() <= 1100 * 1024, "{} bytes", names.unknown.bytes());
    assert!(names.known.bytes() <= 3200 * 1024, "{} bytes", names.known.bytes());
}

#[test]
fn each_limit_can_be_off() {
    let off = Throttle::new(&LoginSettings { address: None, name: None });
    let by_address = Throttle::new(&LoginSettings { name: None, ..SETTINGS });
    let by_name = Throttle::new(&LoginSettings { address: None, ..SETTINGS });
    for _ in 0..100 {
        assert_eq!(fail(&off, 1, "user01", at(0)), Ok(()));
        assert!(!matches!(fail(&by_address, 1, "user01", at(0)), Err(Throttled::Name(_))));
        assert!(!matches!(fail(&by_name, 1, "user01", at(0)), Err(Throttled::Address(_))));
    }
}
