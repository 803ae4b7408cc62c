//! How stores lead to each other: by standing inside one another, and by their names.
//!
//! Names lead anywhere, also in circles and in chains as long as the file: nothing here recurses
//! along them. What stands inside has the depth of the document, which is bounded.

use super::store::{Store, StoreSpec};
use crate::diagnostic::Located;
use crate::excerpt::shorten;
use crate::reader::Reader;
use std::collections::HashMap;

/// More names of a circle than this are not shown.
const MAX_SHOWN: usize = 8;
/// A chain of names longer than this is nobody's intention.
const MAX_HOPS: usize = 64;

type Spec = Located<StoreSpec>;

/// The stores of a file by their names. Of several with one name the first counts.
pub(super) struct Graph<'s> {
    stores: &'s [Store],
    by_name: HashMap<&'s str, &'s Store>,
}

impl<'s> Graph<'s> {
    pub(super) fn new(stores: &'s [Store]) -> Self {
        let by_name = stores.iter().rev().map(|store| (store.name.as_str(), store)).collect();
        Self { stores, by_name }
    }

    /// The name that is meant in the end, if the store is nothing but a reference to another.
    pub(super) fn resolved<'n>(&self, name: &'n str) -> &'n str
    where
        's: 'n,
    {
        let mut name = name;
        for _ in 0..MAX_HOPS {
            match self.by_name.get(name).map(|store| &store.spec.value) {
                Some(StoreSpec::RefStore(next)) => name = next,
                _ => break,
            }
        }
        name
    }

    /// Reports what does not fit together.
    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        self.check_circles(reader);
        let upstreams = self.upstreams();
        for store in self.stores {
            for_each(&store.spec, &mut |spec| {
                self.check_noop(spec, reader);
                check_encoding(spec, &upstreams, reader);
            });
        }
    }

    /// A store that leads back to itself would wait for itself.
    fn check_circles(&self, reader: &mut Reader<'_>) {
        /// Where the search is with a store: at a place of the path, or done.
        enum Seen {
            OnPath(usize),
            Done,
        }
        let mut seen: HashMap<&str, Seen> = HashMap::new();
        for start in self.stores.iter().map(|store| store.name.as_str()) {
            if seen.contains_key(start) {
                continue;
            }
            let mut path = vec![(start, self.references(start))];
            seen.insert(start, Seen::OnPath(0));
            while let Some((name, references)) = path.last_mut() {
                let Some(reference) = references.pop() else {
                    seen.insert(*name, Seen::Done);
                    path.pop();
                    continue;
                };
                let next = reference.as_str();
                match seen.get(next) {
                    Some(Seen::Done) => {}
                    Some(Seen::OnPath(from)) => {
                        let circle = path.iter().skip(*from).map(|(name, _)| *name);
                        reader.report_at(&reference.place, describe_circle(circle, next));
                    }
                    None => {
                        seen.insert(next, Seen::OnPath(path.len()));
                        path.push((next, self.references(next)));
                    }
                }
            }
        }
    }

    /// Every reference in a store, the last one first.
    fn references(&self, name: &str) -> Vec<&'s Located<String>> {
        let mut references = Vec::new();
        if let Some(store) = self.by_name.get(name) {
            for_each(&store.spec, &mut |spec| {
                if let StoreSpec::RefStore(name) = &spec.value {
                    references.push(name);
                }
            });
        }
        references.reverse();
        references
    }

    /// The stores whose bytes end at another server under their own digest, with the line of the
    /// `grpc` store there.
    fn upstreams(&self) -> HashMap<&'s str, u32> {
        let mut referring: HashMap<&str, Vec<&'s str>> = HashMap::new();
        let mut found: HashMap<&'s str, u32> = HashMap::new();
        let mut reached = Vec::new();
        for store in self.stores {
            let (name, ends) = (store.name.as_str(), Ends::of(&store.spec));
            for next in ends.references {
                referring.entry(next).or_default().push(name);
            }
            if let Some(line) = ends.upstream {
                found.insert(name, line);
                reached.push((name, line));
            }
        }
        while let Some((name, line)) = reached.pop() {
            for referring in referring.remove(name).unwrap_or_default() {
                if !found.contains_key(referring) {
                    found.insert(referring, line);
                    reached.push((referring, line));
                }
            }
        }
        found
    }

    fn check_noop(&self, spec: &Spec, reader: &mut Reader<'_>) {
        let StoreSpec::FastSlow(store) = &spec.value else {
            return;
        };
        if self.is_noop(&store.slow) {
            if self.is_noop(&store.fast) {
                reader.warn_at(&spec.place, "nothing is kept here: both sides are noop stores");
            }
            if store.write_behind.is_some() {
                let message = "`write_behind` has no effect: the slow side is a noop store";
                reader.warn_at(&spec.place, message);
            }
        }
    }

    fn is_noop(&self, spec: &Spec) -> bool {
        match &spec.value {
            StoreSpec::Noop => true,
            StoreSpec::RefStore(name) => {
                let store = self.by_name.get(self.resolved(name));
                store.is_some_and(|store| store.spec.value == StoreSpec::Noop)
            }
            _ => false,
        }
    }
}

/// Where the bytes of a store end up under their own digest.
struct Ends<'s> {
    /// The line of a `grpc` store.
    upstream: Option<u32>,
    /// The names of other stores.
    references: Vec<&'s str>,
}

impl<'s> Ends<'s> {
    fn of(spec: &'s Spec) -> Self {
        let mut ends = Self { upstream: None, references: Vec::new() };
        ends.add(spec);
        ends
    }

    fn add(&mut self, spec: &'s Spec) {
        match &spec.value {
            StoreSpec::Grpc(_) => self.upstream = self.upstream.or(Some(spec.place.line)),
            StoreSpec::RefStore(name) => self.references.push(name),
            // Behind these are other bytes, or other digests: they are looked at on their own.
            StoreSpec::Compression(_) | StoreSpec::Dedup(_) => {}
            // The blobs of a completeness check are read only.
            StoreSpec::CompletenessChecking(store) => self.add(&store.backend),
            other => other.backends().into_iter().for_each(|backend| self.add(backend)),
        }
    }
}

/// A server refuses bytes that do not hash to the digest they are under.
fn check_encoding(spec: &Spec, upstreams: &HashMap<&str, u32>, reader: &mut Reader<'_>) {
    let (kept, backend) = match &spec.value {
        StoreSpec::Compression(store) => ("compressed blobs", &store.backend),
        StoreSpec::Dedup(store) => ("lists of pieces", &store.index_store),
        _ => return,
    };
    let ends = Ends::of(backend);
    let by_name = |name: &&str| upstreams.get(*name).copied();
    if let Some(line) = ends.upstream.or_else(|| ends.references.iter().find_map(by_name)) {
        let message = format!(
            "{kept} would go to the grpc store in line {line}: an upstream refuses bytes that do \
             not hash to their digest"
        );
        reader.report_at(&backend.place, message);
    }
}

/// Calls the function for a store and every store inside it, in the order of the format.
fn for_each<'s>(spec: &'s Spec, visit: &mut impl FnMut(&'s Spec)) {
    visit(spec);
    for backend in spec.backends() {
        for_each(backend, visit);
    }
}

fn describe_circle<'n>(circle: impl Iterator<Item = &'n str>, back_to: &str) -> String {
    let mut names: Vec<String> = circle.map(|name| format!("{:?}", shorten(name))).collect();
    let unshown = names.len().saturating_sub(MAX_SHOWN);
    names.truncate(MAX_SHOWN);
    if unshown > 0 {
        names.push(format!("{unshown} more"));
    }
    format!("stores that lead in a circle: {} -> {:?}", names.join(" -> "), shorten(back_to))
}
