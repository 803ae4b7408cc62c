//! What only shows when the parts of a file are seen together.
//!
//! The readers note names and uses as they meet them, also inside parts that turn out to be wrong,
//! so that one mistake does not hide another or cause a second message.

use super::address::{Host, ListenAddress, SocketAddress};
use super::graph::Graph;
use crate::diagnostic::Located;
use crate::excerpt::shorten;
use crate::reader::{Reader, nearest};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;

/// The names a file gives and the uses it makes of them.
#[derive(Default)]
pub(super) struct Facts {
    /// Names of stores, of every kind.
    stores: Vec<Located<String>>,
    /// Some store's name could not be read: what looks unknown may be that one.
    unnamed_store: bool,
    store_uses: Vec<Located<String>>,
    schedulers: Vec<Located<String>>,
    unnamed_scheduler: bool,
    scheduler_uses: Vec<Located<String>>,
    content_paths: Vec<Located<String>>,
    temp_paths: Vec<Located<String>>,
    addresses: Vec<Located<ListenAddress>>,
    cas: Vec<StoreOfInstance>,
    ac: Vec<StoreOfInstance>,
}

struct StoreOfInstance {
    instance_name: String,
    store: Located<String>,
}

impl Facts {
    /// A store, or one whose name cannot be read.
    pub(super) fn add_store(&mut self, name: Option<&Located<String>>) {
        match name {
            Some(name) => self.stores.push(name.clone()),
            None => self.unnamed_store = true,
        }
    }

    /// A store is referred to by its name.
    pub(super) fn use_store(&mut self, name: Option<&Located<String>>) {
        self.store_uses.extend(name.cloned());
    }

    /// A scheduler, or one whose name cannot be read.
    pub(super) fn add_scheduler(&mut self, name: Option<&Located<String>>) {
        match name {
            Some(name) => self.schedulers.push(name.clone()),
            None => self.unnamed_scheduler = true,
        }
    }

    /// A scheduler is referred to by its name.
    pub(super) fn use_scheduler(&mut self, name: Option<&Located<String>>) {
        self.scheduler_uses.extend(name.cloned());
    }

    /// A store keeps its content in a directory.
    pub(super) fn add_content_path(&mut self, path: Option<&Located<String>>) {
        self.content_paths.extend(path.cloned());
    }

    /// A store keeps unfinished uploads in a directory.
    pub(super) fn add_temp_path(&mut self, path: Option<&Located<String>>) {
        self.temp_paths.extend(path.cloned());
    }

    /// A server listens.
    pub(super) fn add_address(&mut self, address: &Located<ListenAddress>) {
        self.addresses.push(address.clone());
    }

    /// An instance keeps its blobs in a store.
    pub(super) fn add_cas(&mut self, instance_name: &str, store: Option<&Located<String>>) {
        self.use_store(store);
        self.cas.extend(store.map(|store| StoreOfInstance::new(instance_name, store)));
    }

    /// An instance keeps its action results in a store.
    pub(super) fn add_ac(&mut self, instance_name: &str, store: Option<&Located<String>>) {
        self.use_store(store);
        self.ac.extend(store.map(|store| StoreOfInstance::new(instance_name, store)));
    }

    /// Reports what does not fit together.
    pub(super) fn check(&self, reader: &mut Reader<'_>, graph: &Graph<'_>) {
        check_names("store", &self.stores, reader);
        check_names("scheduler", &self.schedulers, reader);
        if !self.unnamed_store {
            check_uses("store", &self.stores, &self.store_uses, reader);
        }
        if !self.unnamed_scheduler {
            check_uses("scheduler", &self.schedulers, &self.scheduler_uses, reader);
        }
        self.check_directories(reader);
        self.check_addresses(reader);
        self.check_instances(reader, graph);
        graph.check(reader);
    }

    /// Two stores in one directory delete each other's files, and a store empties its directory of
    /// unfinished uploads when it starts. Only spellings are compared: links are for the store to
    /// find, by the lock it takes.
    fn check_directories(&self, reader: &mut Reader<'_>) {
        let mut contents: Vec<&Located<String>> = self.content_paths.iter().collect();
        // The order of components: a directory stands right before what is inside it.
        contents.sort_by_key(|path| directory(path));
        let mut around: Vec<&Located<String>> = Vec::new();
        for path in &contents {
            let inner = directory(path);
            while around.pop_if(|outer| !inner.starts_with(directory(outer))).is_some() {}
            let Some(outer) = around.last() else {
                around.push(path);
                continue;
            };
            let line = outer.place.line;
            let message = if directory(outer) == inner {
                format!("a second store in this directory; line {line} has the first")
            } else {
                around.push(path);
                format!("this directory is inside that of another store, in line {line}")
            };
            reader.report_at(&path.place, message);
        }
        // Of several the first one is shown.
        let lines: HashMap<&Path, u32> =
            contents.iter().rev().map(|path| (directory(path), path.place.line)).collect();
        for path in &self.temp_paths {
            if let Some(line) = lines.get(directory(path)) {
                let message = format!(
                    "this directory has content, by line {line}; uploads need one of their own"
                );
                reader.report_at(&path.place, message);
            }
        }
    }

    fn check_addresses(&self, reader: &mut Reader<'_>) {
        for (address, first) in repeated(&self.addresses, address_key) {
            let message = format!("this address is in use already, by line {first}");
            reader.report_at(&address.place, message);
        }
    }

    /// Action results under the keys of blobs would be served as blobs that do not match their
    /// digests.
    fn check_instances(&self, reader: &mut Reader<'_>, graph: &Graph<'_>) {
        let cas_lines: HashMap<(&str, &str), u32> =
            self.cas.iter().rev().map(|cas| (cas.key(graph), cas.store.place.line)).collect();
        for ac in &self.ac {
            if let Some(line) = cas_lines.get(&ac.key(graph)) {
                let message = format!(
                    "the instance {:?} uses the store {:?} for its CAS too, in line {line}; \
                     action results need a store of their own",
                    shorten(&ac.instance_name),
                    shorten(&ac.store)
                );
                reader.report_at(&ac.store.place, message);
            }
        }
    }
}

/// Names are there once.
fn check_names(what: &str, names: &[Located<String>], reader: &mut Reader<'_>) {
    for (name, first) in repeated(names, |name| Some(name.clone())) {
        let message =
            format!("a second {what} named {:?}; line {first} has it already", shorten(name));
        reader.report_at(&name.place, message);
    }
}

/// What is referred to is there.
fn check_uses(
    what: &str,
    names: &[Located<String>],
    uses: &[Located<String>],
    reader: &mut Reader<'_>,
) {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let known: HashSet<&str> = names.iter().copied().collect();
    for used in uses.iter().filter(|used| !known.contains(used.as_str())) {
        let advice = match nearest(used, &names) {
            Some(name) => format!("; did you mean {name:?}?"),
            None => String::new(),
        };
        let message = format!("there is no {what} named {:?}{advice}", shorten(used));
        reader.report_at(&used.place, message);
    }
}

impl StoreOfInstance {
    fn new(instance_name: &str, store: &Located<String>) -> Self {
        Self { instance_name: instance_name.to_owned(), store: store.clone() }
    }

    fn key<'n>(&'n self, graph: &Graph<'n>) -> (&'n str, &'n str) {
        (&self.instance_name, graph.resolved(&self.store))
    }
}

/// A directory as it is compared: by components, and without the spellings of "here".
fn directory(path: &str) -> &Path {
    let path = Path::new(path);
    match path.strip_prefix(".") {
        Ok(below) if below != Path::new("") => below,
        _ => path,
    }
}

/// What two addresses that cannot both be listened on have in common. Port 0 is a different free
/// port every time.
fn address_key(address: &ListenAddress) -> Option<String> {
    match address {
        ListenAddress::Tcp(SocketAddress { port: 0, .. }) => None,
        ListenAddress::Tcp(SocketAddress { host: Host::Any, port }) => {
            Some(format!("{}:{port}", Ipv4Addr::UNSPECIFIED))
        }
        ListenAddress::Tcp(_) | ListenAddress::Unix(_) => Some(address.to_string()),
    }
}

/// The values whose key an earlier one has, with the line of that one. Values without a key never
/// collide.
fn repeated<T>(
    values: &[Located<T>],
    key: impl Fn(&T) -> Option<String>,
) -> Vec<(&Located<T>, u32)> {
    let mut first_lines: HashMap<String, u32> = HashMap::new();
    let mut found = Vec::new();
    for value in values {
        let Some(key) = key(&value.value) else {
            continue;
        };
        match first_lines.entry(key) {
            Entry::Occupied(first) => found.push((value, *first.get())),
            Entry::Vacant(vacant) => {
                vacant.insert(value.place.line);
            }
        }
    }
    found
}
