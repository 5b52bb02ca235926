//! What the listeners of one process have seen.
//!
//! Must count a connection before anything else happens to it, so that "saw nothing" is exact.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rcc_testkit::world::wire::{DnsQuery, HttpRequest, Seen};

/// Counters of one listener (protocol, address and port).
#[derive(Debug, Default)]
pub(crate) struct Entry {
    connections: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Entry {
    pub(crate) fn connection(&self) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::SeqCst);
    }
}

/// All records of one process.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    requests: Mutex<Vec<HttpRequest>>,
    strange: Mutex<Vec<DnsQuery>>,
    messages: Mutex<Vec<serde_json::Value>>,
    /// Local addresses of our own connections that only push the others through.
    marks: Mutex<HashSet<SocketAddr>>,
    mark_seen: Condvar,
}

/// Locks; a panic elsewhere must not hide what was counted.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    /// Gives the entry of a listener.
    pub(crate) fn entry(&self, protocol: &str, local: SocketAddr) -> Arc<Entry> {
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        self.named(&format!("{protocol} {local}"))
    }

    /// Gives the entry of a listener by its whole name.
    pub(crate) fn named(&self, name: &str) -> Arc<Entry> {
        Arc::clone(lock(&self.entries).entry(name.to_owned()).or_default())
    }

    /// Gives all entries that saw something.
    pub(crate) fn seen(&self) -> BTreeMap<String, Seen> {
        let read = |entry: &Entry| Seen {
            connections: entry.connections.load(Ordering::SeqCst),
            bytes_received: entry.received.load(Ordering::SeqCst),
            bytes_sent: entry.sent.load(Ordering::SeqCst),
        };
        let entries = lock(&self.entries);
        entries
            .iter()
            .map(|(key, entry)| (key.clone(), read(entry)))
            .filter(|(_, seen)| seen.connections > 0)
            .collect()
    }

    pub(crate) fn forget(&self) {
        lock(&self.entries).clear();
        lock(&self.requests).clear();
        lock(&self.strange).clear();
        lock(&self.messages).clear();
    }

    pub(crate) fn add_request(&self, request: HttpRequest) {
        lock(&self.requests).push(request);
    }

    pub(crate) fn requests(&self) -> Vec<HttpRequest> {
        lock(&self.requests).clone()
    }

    pub(crate) fn add_strange(&self, query: DnsQuery) {
        lock(&self.strange).push(query);
    }

    pub(crate) fn strange(&self) -> Vec<DnsQuery> {
        lock(&self.strange).clone()
    }

    pub(crate) fn add_message(&self, message: serde_json::Value) {
        lock(&self.messages).push(message);
    }

    pub(crate) fn messages(&self) -> Vec<serde_json::Value> {
        lock(&self.messages).clone()
    }

    /// Announces one of our own connections, before it is made.
    pub(crate) fn announce_mark(&self, from: SocketAddr) {
        lock(&self.marks).insert(from);
    }

    /// Says whether a peer is one of our own connections, and takes it off the list.
    pub(crate) fn take_mark(&self, peer: SocketAddr) -> bool {
        let was_there =
            lock(&self.marks).remove(&SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        if was_there {
            self.mark_seen.notify_all();
        }
        was_there
    }

    /// Waits until every announced connection has come out of its listener's queue.
    pub(crate) fn wait_for_marks(&self) {
        let marks = lock(&self.marks);
        drop(self.mark_seen.wait_while(marks, |marks| !marks.is_empty()));
    }
}
