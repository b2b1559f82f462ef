//! Which pattern of a table matches a path first, without trying each.
//!
//! A tree for each host, and one for routes without hosts, whose edges are literal segments or "any segment". The tree
//! only selects candidates: each is compared with the whole path, as in a table without an index. The candidate that is
//! first in the file wins, and subtrees that have no earlier one are skipped.
//!
//! A router crate such as `matchit` is no alternative: it refuses patterns that overlap and prefers the most specific
//! one, but here overlapping patterns are valid and their order in the file decides.

use std::collections::HashMap;

use super::pattern::Segment;
use super::{Pattern, Route};
use crate::framing::CanonicalPath;

/// Tables of at most this many patterns are searched in order, which is faster for so few.
const FEW: usize = 8;

/// The depth of a tree, and so of the recursion; patterns that differ only in later segments are tried in order.
const MAX_DEPTH: usize = 16;

/// The place of a pattern among all patterns of a table: routes in order, of each the path before its aliases.
type Place = usize;

/// The patterns of a table in their order, and the trees over them.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// The position of each pattern's route, and of the pattern among the aliases of the route.
    patterns: Vec<(usize, Option<usize>)>,
    /// `None` if there are few patterns.
    trees: Option<Trees>,
}

#[derive(Clone, Debug, Default)]
struct Trees {
    every_host: Tree,
    hosts: HashMap<String, Tree>,
}

/// The nodes of a tree; the first is the root.
#[derive(Clone, Debug)]
struct Tree(Vec<Node>);

#[derive(Clone, Debug)]
struct Node {
    /// The first place in this node and below.
    first: Place,
    literals: HashMap<String, usize>,
    any: Option<usize>,
    /// The patterns that end at this node, in order: whole, with their tail, or cut off at [`MAX_DEPTH`].
    ends: Vec<Place>,
}

impl Node {
    fn new(first: Place) -> Self {
        Self { first, literals: HashMap::new(), any: None, ends: Vec::new() }
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self(vec![Node::new(Place::MAX)])
    }
}

impl Index {
    pub(super) fn new<R: AsRef<Route>>(routes: &[R]) -> Self {
        let mut patterns = Vec::new();
        for (position, route) in routes.iter().enumerate() {
            patterns.push((position, None));
            patterns.extend((0..route.as_ref().aliases.len()).map(|alias| (position, Some(alias))));
        }
        let mut index = Self { patterns, trees: None };
        if index.patterns.len() > FEW {
            let mut trees = Trees::default();
            for place in 0..index.patterns.len() {
                let Some((_, route, pattern)) = index.get(routes, place) else { continue };
                if route.hosts.is_empty() {
                    trees.every_host.insert(pattern, place);
                }
                for host in &route.hosts {
                    trees.hosts.entry(host.clone()).or_default().insert(pattern, place);
                }
            }
            index.trees = Some(trees);
        }
        index
    }

    /// The position of the first route that matches `path` for `host`, and which of its aliases matches; `None` is its
    /// path. `routes` are those that the index was made of.
    pub(super) fn find<R: AsRef<Route>>(
        &self,
        routes: &[R],
        host: &str,
        path: &CanonicalPath<'_>,
    ) -> Option<(usize, Option<usize>)> {
        let is_match = |place: Place| {
            self.get(routes, place).is_some_and(|(_, route, pattern)| route.has_host(host) && pattern.matches(path))
        };
        let first = match &self.trees {
            None => (0..self.patterns.len()).find(|&place| is_match(place))?,
            Some(trees) => {
                let mut first = Place::MAX;
                let segments = path.as_str().strip_prefix('/');
                for tree in [Some(&trees.every_host), trees.hosts.get(host)].into_iter().flatten() {
                    tree.search(0, segments, &is_match, &mut first);
                }
                first
            }
        };
        self.patterns.get(first).copied()
    }

    fn get<'a, R: AsRef<Route>>(&self, routes: &'a [R], place: Place) -> Option<(usize, &'a Route, &'a Pattern)> {
        let (position, alias) = *self.patterns.get(place)?;
        let route = routes.get(position)?.as_ref();
        Some((position, route, route.pattern(alias)?))
    }
}

impl Tree {
    /// Adds a pattern. Places are added in ascending order.
    fn insert(&mut self, pattern: &Pattern, place: Place) {
        let mut at = 0;
        for segment in pattern.segments().iter().take(MAX_DEPTH) {
            let new = self.0.len();
            let Some(node) = self.0.get_mut(at) else { return };
            node.first = node.first.min(place);
            at = match segment {
                Segment::Literal(literal) => *node.literals.entry(literal.clone()).or_insert(new),
                Segment::Any { .. } => *node.any.get_or_insert(new),
                Segment::Tail { .. } => break,
            };
            if at == new {
                self.0.push(Node::new(place));
            }
        }
        if let Some(node) = self.0.get_mut(at) {
            node.first = node.first.min(place);
            node.ends.push(place);
        }
    }

    /// Lowers `first` to the first place at the node `at` or below that matches. `segments` is what of the path follows
    /// the node, without its slash; `None` at the end of the path.
    fn search(&self, at: usize, segments: Option<&str>, is_match: &impl Fn(Place) -> bool, first: &mut Place) {
        let Some(node) = self.0.get(at).filter(|node| node.first < *first) else { return };
        if let Some(place) = node.ends.iter().take_while(|&place| place < first).find(|&&place| is_match(place)) {
            *first = *place;
        }
        let Some(segments) = segments else { return };
        let (segment, rest) =
            segments.split_once('/').map_or((segments, None), |(segment, rest)| (segment, Some(rest)));
        if let Some(&next) = node.literals.get(segment) {
            self.search(next, rest, is_match, first);
        }
        if let Some(next) = node.any {
            self.search(next, rest, is_match, first);
        }
    }
}
