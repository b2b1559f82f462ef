//! What the routes of a new configuration take over from those of the previous one, while the gateway serves.

use std::sync::Arc;
use std::time::Duration;

use super::{Route, RouteTable};

impl Route {
    /// Whether requests are admitted to this route by the same rules, and forwarded to the same service, as to `other` of
    /// another configuration.
    pub fn admits_as(&self, other: &Self) -> bool {
        self.name == other.name && self.settings.admission() == other.settings.admission()
    }

    /// Takes over the counts of `earlier`, the route with the same name, at `now` on the clock of its limiter; and its
    /// cached responses if nothing has changed. Otherwise those are found no more: they may be the response to another
    /// request.
    fn succeed(&mut self, earlier: &Self, reload: u64, now: Duration) {
        if let (Some(limit), Some(limiter)) = (&self.bounds.limit, &earlier.limiter)
            && earlier.bounds.limit.as_ref().is_some_and(|before| before.by == limit.by)
        {
            self.limiter = Some(limiter.with_quota(limit.quota, now));
        }
        if self.settings.meaning() == earlier.settings.meaning() {
            self.cached_as = Arc::clone(&earlier.cached_as);
        } else {
            self.forget_cached(reload);
        }
    }

    /// Uses no response that was cached before the reload with this number.
    fn forget_cached(&mut self, reload: u64) {
        // No name of a route has this character, and no other reload this number.
        self.cached_as = format!("{}\n{reload}", self.name).into();
    }
}

impl RouteTable {
    /// Takes over what may remain of the routes of the `earlier` table: counts of limits, and cached responses of routes
    /// that are the same. `reload` is a number that no other reload has, and `now` the time on the clock of the limiters.
    pub fn succeed(&mut self, earlier: &Self, reload: u64, now: Duration) {
        for route in &mut self.routes {
            // A table that was just read is the only owner of its routes.
            let Some(route) = Arc::get_mut(route) else { continue };
            match earlier.routes.iter().find(|other| other.name == route.name) {
                Some(other) => route.succeed(other, reload, now),
                // A route with its name may have been removed before.
                None => route.forget_cached(reload),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limit, LimitBy, Settings};
    use super::*;
    use crate::limit::Quota;

    const NOW: Duration = Duration::from_secs(100);

    fn settings(name: &str) -> Settings {
        let methods = vec!["GET".to_owned()];
        Settings { name: Some(name.to_owned()), methods, path: format!("/{name}"), ..Settings::default() }
    }

    fn table(routes: &[Settings]) -> RouteTable {
        let routes = routes.iter().map(|settings| Arc::new(Route::new(settings).unwrap())).collect();
        RouteTable::new(routes, Vec::new())
    }

    fn cached_as(table: &RouteTable) -> Vec<String> {
        table.iter().map(|route| route.cached_as.to_string()).collect()
    }

    #[test]
    fn only_a_route_that_is_the_same_finds_its_cached_responses() {
        let one = |shared| Settings { shared, ..settings("one") };
        let first = table(&[one(true), settings("two")]);
        assert_eq!(cached_as(&first), ["one", "two"]);
        let mut second = table(&[settings("two"), Settings { service: Some(1), ..one(true) }]);
        second.succeed(&first, 1, NOW);
        assert_eq!(cached_as(&second), ["two", "one"], "positions mean nothing");
        let mut third = table(&[one(false)]);
        third.succeed(&second, 2, NOW);
        assert_eq!(cached_as(&third), ["one\n2"]);
        let mut fourth = table(&[one(true), settings("two")]);
        fourth.succeed(&third, 3, NOW);
        assert_eq!(cached_as(&fourth), ["one\n3", "two\n3"], "removed, changed and added again");
    }

    #[test]
    fn what_does_not_decide_on_admission_may_change_under_a_stream() {
        let route = |settings: &Settings| Route::new(settings).unwrap();
        let before = Settings { service_name: Some("a".to_owned()), ..settings("one") };
        let same = Settings { service: Some(3), compress: vec!["gzip".to_owned()], ..before.clone() };
        assert!(route(&same).admits_as(&route(&before)));
        for changed in [
            settings("two"),
            Settings { public: true, ..before.clone() },
            Settings { service_name: Some("b".to_owned()), ..before.clone() },
            Settings { path: "/other".to_owned(), ..before.clone() },
            Settings { hosts: vec!["a.example".to_owned()], ..before.clone() },
        ] {
            assert!(!route(&changed).admits_as(&route(&before)), "{changed:?}");
        }
    }

    #[test]
    fn the_counts_of_a_limit_remain_when_it_changes() {
        let limited = |rate, burst, by| {
            let mut settings = settings("one");
            settings.bounds.limit = Some(Limit { quota: Quota { rate, burst }, by, query: None });
            table(&[settings])
        };
        let take = |table: &RouteTable, key: &str| table.routes[0].limiter.as_ref().unwrap().take(&key, NOW).is_ok();
        let first = limited(1, 2, LimitBy::Identity);
        assert!(take(&first, "a") && take(&first, "a") && !take(&first, "a"));
        let mut second = limited(1, 3, LimitBy::Identity);
        second.succeed(&first, 1, NOW);
        assert!(take(&second, "a") && !take(&second, "a"), "one more, not three");
        let mut other = limited(1, 3, LimitBy::Address);
        other.succeed(&second, 2, NOW);
        assert!(take(&other, "a"), "keys of another kind");
    }
}
