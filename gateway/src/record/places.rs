//! Where the counts of each route are. Routes are added by a reload and never removed, so that no count is lost and no
//! series ends while the program runs.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::striped::{Own, Striped};

/// The maximum number of routes, those included that reloads have removed. Further ones count together as one.
const MAX_ROUTES: usize = 10_000;

/// The counts of each route.
pub(super) struct Places {
    /// The number of counts of a route.
    size: usize,
    /// Sorted by the name of the route.
    routes: ArcSwap<Vec<(Arc<str>, Arc<Striped>)>>,
    /// The counts of all other routes, and their name.
    other: (Arc<str>, Arc<Striped>),
    adding: Mutex<()>,
}

impl Places {
    /// Without routes, each of which will have `size` counts. `other` is the name under which all others count.
    pub(super) fn new(size: usize, other: &str) -> Self {
        let other = (other.into(), Arc::new(Striped::new(size)));
        Self { size, routes: ArcSwap::default(), other, adding: Mutex::default() }
    }

    /// Adds the routes that there are not yet.
    pub(super) fn add(&self, routes: &[&str]) {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::clone(&self.routes.load());
        for route in routes {
            if let Err(place) = search(&all, route)
                && all.len() < MAX_ROUTES
            {
                all.insert(place, ((*route).into(), Arc::new(Striped::new(self.size))));
            }
        }
        self.routes.store(Arc::new(all));
    }

    /// Calls `count` with the counts of `route`.
    pub(super) fn with(&self, route: &str, count: impl FnOnce(Own<'_>)) {
        let routes = self.routes.load();
        let found = search(&routes, route).ok().and_then(|place| routes.get(place));
        let (_, counts) = found.unwrap_or(&self.other);
        count(counts.own());
    }

    /// The routes with their counts.
    pub(super) fn routes(&self) -> Arc<Vec<(Arc<str>, Arc<Striped>)>> {
        self.routes.load_full()
    }

    /// The routes with their counts, and those of all others.
    pub(super) fn all(&self) -> impl Iterator<Item = (Arc<str>, Arc<Striped>)> {
        Vec::clone(&self.routes.load()).into_iter().chain([self.other.clone()])
    }
}

fn search(routes: &[(Arc<str>, Arc<Striped>)], route: &str) -> Result<usize, usize> {
    routes.binary_search_by(|(known, _)| (**known).cmp(route))
}
