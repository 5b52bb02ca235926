//! The audit log: one JSON line per event, written outside of the sandbox by a thread of its own.
//!
//! # Theory of operation
//! Writing to a file blocks when the kernel throttles a writer of dirty pages, which the agent can provoke by writing a lot to the
//! same disk. So tasks of the gateway only append to a buffer, and a thread writes it out, at most [`BATCH_TIME`] later. The
//! first line starts that thread; when it cannot be started, later lines try again, and closing writes what has gathered.
//! Memory and disk stay bounded however the agent behaves: equal refusals and queries are counted after a burst, lines
//! beyond a budget are counted by kind, and every count ends up in the log itself. A failed write loses lines, never the policy, and
//! is counted and reported, too.
//!
//! Must not decide anything, and must not make a connection wait.

mod record;
mod time;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

pub(crate) use record::{Event, Outcome, Record};
use rustix::io::Errno;
use serde_json::json;
pub use time::rfc3339;

/// Longest time a line waits for others before it is written.
const BATCH_TIME: Duration = Duration::from_millis(40);
/// Bytes after which the thread does not wait for more.
const BATCH_BYTES: usize = 64 << 10;
/// Bytes that may wait for a slow disk; lines beyond are counted as suppressed.
const BUFFER_LIMIT: usize = 2 << 20;
/// Equal lines written one by one in a window; what follows is counted.
const REPEAT_BURST: u64 = 10;
/// Length of that window.
const REPEAT_WINDOW: Duration = Duration::from_secs(10);
/// Different lines whose repetitions are tracked at a time.
const REPEAT_KEYS: usize = 1024;
/// Lines that may be written at once, and per second in the long run.
const BUDGET_BURST: f64 = 20_000.0;
const BUDGET_PER_SECOND: f64 = 200.0;
/// Time between two lines that tell what was suppressed.
const SUPPRESSED_EVERY: Duration = Duration::from_secs(1);
/// The thread formats nothing and calls `write(2)`; the default of 2 MiB would only be address space, but is not needed.
const STACK_BYTES: usize = 128 << 10;

/// Where the audit log of a run goes.
#[derive(Debug)]
pub enum AuditSink {
    /// Nowhere.
    Discard,
    /// To the end of this file, which the caller opened for appending, outside of the sandbox.
    File(File),
}

/// What became of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditSummary {
    /// Lines that reached the file.
    pub lines_written: u64,
    /// Lines that were counted instead of written.
    pub lines_suppressed: u64,
    /// Lines that were lost because writing failed.
    pub lines_lost: u64,
    /// The last error of a write.
    pub last_error: Option<String>,
}

struct Repeat {
    window_start: Instant,
    seen: u64,
    /// Seen but not written.
    held: u64,
}

struct State {
    buffer: Vec<u8>,
    buffered_lines: u64,
    repeats: HashMap<Vec<u8>, Repeat>,
    /// Lines that may still be written at once.
    budget: f64,
    budget_updated: Instant,
    /// Lines not written since the last line that told so, by [`Event::ALL`].
    suppressed: [u64; Event::ALL.len()],
    suppressed_told: Instant,
    bytes_left: u64,
    closing: bool,
    /// Lost lines that the log does not mention yet.
    lost_untold: u64,
    summary: AuditSummary,
}

struct Inner {
    run_id: String,
    state: Mutex<State>,
    wake: Condvar,
}

/// Takes records and gets them written.
pub(crate) struct AuditLog {
    inner: Arc<Inner>,
    /// None when the log is discarded.
    file: Option<Arc<File>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Makes a log; nothing is written before the first line.
    pub(crate) fn new(run_id: &str, sink: AuditSink, bytes_limit: u64) -> Self {
        let now = Instant::now();
        let inner = Arc::new(Inner {
            run_id: run_id.to_owned(),
            state: Mutex::new(State {
                buffer: Vec::new(),
                buffered_lines: 0,
                repeats: HashMap::new(),
                budget: BUDGET_BURST,
                budget_updated: now,
                suppressed: [0; Event::ALL.len()],
                suppressed_told: now,
                bytes_left: bytes_limit,
                closing: false,
                lost_untold: 0,
                summary: AuditSummary::default(),
            }),
            wake: Condvar::new(),
        });
        Self {
            inner,
            file: match sink {
                AuditSink::Discard => None,
                AuditSink::File(file) => Some(Arc::new(file)),
            },
            writer: Mutex::new(None),
        }
    }

    /// Tells the writing thread that there is something for it, and starts it the first time.
    fn wake(&self, state: &mut State) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(file), false) = (&*writer, &self.file, state.closing) {
            let (inner, file) = (Arc::clone(&self.inner), Arc::clone(file));
            let thread = std::thread::Builder::new()
                .name("rcc-audit".into())
                .stack_size(STACK_BYTES)
                .spawn(move || write_out(&inner, &file));
            match thread {
                Ok(thread) => *writer = Some(thread),
                Err(error) => state.summary.last_error = Some(error.to_string()),
            }
        }
        self.inner.wake.notify_one();
    }

    /// Appends a record to the log.
    pub(crate) fn log(&self, record: &Record) {
        if self.file.is_none() {
            return;
        }
        // A record of strings and numbers always serialises.
        let Ok(body) = serde_json::to_vec(record) else {
            return;
        };
        let now = Instant::now();
        let mut state = self.inner.state();
        let was_empty = state.buffer.is_empty();
        if record.event.repeats() && state.is_held(&body, now) {
            // The thread may sleep without a time-out: it has to learn of the window.
            self.wake(&mut state);
            return;
        }
        if !state.may_write(body.len(), now) {
            for (event, count) in Event::ALL.iter().zip(&mut state.suppressed) {
                *count += u64::from(*event == record.event);
            }
            state.summary.lines_suppressed += 1;
            self.wake(&mut state);
            return;
        }
        self.inner.append(&mut state, &body);
        if was_empty || state.buffer.len() > BATCH_BYTES {
            self.wake(&mut state);
        }
    }

    /// Appends a line about the policy. The agent cannot cause one, so they are not counted against its budget.
    pub(crate) fn note(&self, reason: &str, text: Option<&str>, cut: usize) {
        if self.file.is_none() {
            return;
        }
        let mut line = json!({"event": "policy", "reason": reason});
        if let Some(text) = text {
            line["text"] = text.into();
        }
        if cut > 0 {
            line["cut"] = cut.into();
        }
        let mut state = self.inner.state();
        let line = line.to_string();
        // The file keeps its limit.
        if state.bytes_left
            > u64::try_from(line.len())
                .unwrap_or(u64::MAX)
                .saturating_add(256)
        {
            self.inner.append(&mut state, line.as_bytes());
            self.wake(&mut state);
        }
    }

    /// Writes what is left, tells all counts, and ends the thread.
    pub(crate) fn close(&self) -> AuditSummary {
        self.inner.state().closing = true;
        self.inner.wake.notify_one();
        let thread = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let panicked = match (thread, &self.file) {
            (Some(thread), _) => thread.join().is_err(),
            // Usually there is nothing, and this returns at once.
            (None, Some(file)) => {
                write_out(&self.inner, file);
                false
            }
            (None, None) => false,
        };
        let mut summary = self.inner.state().summary.clone();
        if panicked {
            summary.last_error = Some("the writing thread panicked".to_owned());
        }
        summary
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends one line: time and run, then the fields of `body`, a JSON object.
    fn append(&self, state: &mut State, body: &[u8]) {
        let time = rfc3339(SystemTime::now());
        let run = serde_json::Value::from(self.run_id.as_str());
        let fields = body.strip_prefix(b"{").unwrap_or(body);
        let before = state.buffer.len();
        // Writing to a vector cannot fail.
        let _ = write!(state.buffer, "{{\"time\":\"{time}\",\"run\":{run},");
        state.buffer.extend_from_slice(fields);
        state.buffer.push(b'\n');
        state.buffered_lines += 1;
        let length = u64::try_from(state.buffer.len() - before).unwrap_or(u64::MAX);
        state.bytes_left = state.bytes_left.saturating_sub(length);
    }

    /// Appends the lines that tell counts: windows that ended, lines suppressed, lines lost.
    fn append_counts(&self, state: &mut State, now: Instant) {
        let closing = state.closing;
        let ended: Vec<Vec<u8>> = state
            .repeats
            .iter()
            .filter(|(_, repeat)| closing || now >= repeat.window_start + REPEAT_WINDOW)
            .map(|(body, _)| body.clone())
            .collect();
        for body in ended {
            let held = state.repeats.remove(&body).map_or(0, |repeat| repeat.held);
            if held > 0 {
                let mut line = body;
                line.pop();
                // Writing to a vector cannot fail.
                let _ = write!(line, ",\"repeated\":{held}}}");
                self.append(state, &line);
            }
        }
        let suppressed: u64 = state.suppressed.iter().sum();
        if suppressed > 0 && (closing || now >= state.suppressed_told + SUPPRESSED_EVERY) {
            let [dns, connect, close, refuse, publish, publish_close] =
                std::mem::take(&mut state.suppressed);
            let line = json!({"event": "suppressed", "lines": suppressed, "dns": dns, "connect": connect,
                "close": close, "refuse": refuse, "publish": publish,
                "publish_close": publish_close});
            self.append(state, line.to_string().as_bytes());
            state.suppressed_told = now;
        }
        if state.lost_untold > 0 && !state.buffer.is_empty() {
            let line = json!({"event": "lost", "lines": std::mem::take(&mut state.lost_untold)});
            self.append(state, line.to_string().as_bytes());
        }
    }
}

impl State {
    /// Counts a repetition; tells whether it is counted instead of written.
    fn is_held(&mut self, body: &[u8], now: Instant) -> bool {
        if let Some(repeat) = self.repeats.get_mut(body) {
            // A window that is over is told and removed by the thread.
            repeat.seen += 1;
            if repeat.seen > REPEAT_BURST {
                repeat.held += 1;
                return true;
            }
            return false;
        }
        if self.repeats.len() >= REPEAT_KEYS {
            // What was seen once or twice needs no telling.
            self.repeats.retain(|_, repeat| repeat.held > 0);
        }
        if self.repeats.len() < REPEAT_KEYS {
            let repeat = Repeat {
                window_start: now,
                seen: 1,
                held: 0,
            };
            self.repeats.insert(body.to_vec(), repeat);
        }
        false
    }

    fn may_write(&mut self, length: usize, now: Instant) -> bool {
        let earned = now.duration_since(self.budget_updated).as_secs_f64() * BUDGET_PER_SECOND;
        self.budget = (self.budget + earned).min(BUDGET_BURST);
        self.budget_updated = now;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if self.budget < 1.0
            || self.buffer.len() > BUFFER_LIMIT
            || self.bytes_left < length.saturating_add(256)
        {
            return false;
        }
        self.budget -= 1.0;
        true
    }

    /// When the next count has to be told.
    fn next_due(&self) -> Option<Instant> {
        let window = self
            .repeats
            .values()
            .map(|repeat| repeat.window_start + REPEAT_WINDOW)
            .min();
        let suppressed = (self.suppressed != [0; Event::ALL.len()])
            .then_some(self.suppressed_told + SUPPRESSED_EVERY);
        match (window, suppressed) {
            (Some(window), Some(suppressed)) => Some(window.min(suppressed)),
            (window, suppressed) => window.or(suppressed),
        }
    }
}

/// Writes what comes until the log is closed: the thread's whole life.
fn write_out(inner: &Inner, mut file: &File) {
    // Whether the file ends in the middle of a line.
    let mut torn = false;
    let mut state = inner.state();
    loop {
        while state.buffer.is_empty() && !state.closing {
            state = match state.next_due() {
                None => inner
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let time = due.saturating_duration_since(Instant::now());
                    let waited = inner.wake.wait_timeout(state, time);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.append_counts(&mut state, Instant::now());
        }
        let more_may_come = |state: &mut State| !state.closing && state.buffer.len() < BATCH_BYTES;
        let waited = inner
            .wake
            .wait_timeout_while(state, BATCH_TIME, more_may_come);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.append_counts(&mut state, Instant::now());
        if state.buffer.is_empty() {
            // Only closing leads here.
            return;
        }
        let mut batch = std::mem::take(&mut state.buffer);
        let lines = std::mem::take(&mut state.buffered_lines);
        drop(state);
        if torn {
            batch.insert(0, b'\n');
        }
        let written = file.write_all(&batch);
        state = inner.state();
        torn = written.is_err();
        match written {
            Ok(()) => state.summary.lines_written += lines,
            Err(error) => {
                state.summary.lines_lost += lines;
                state.lost_untold += lines;
                let errno = Errno::from_io_error(&error);
                let reason = errno.map_or_else(|| error.to_string(), rcc_sys::describe_errno);
                state.summary.last_error = Some(reason);
            }
        }
        if state.closing && state.buffer.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
