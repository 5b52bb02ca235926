//! Bytes of the agent that were read and wait for a judgement.
//!
//! Must not grow beyond what the callers bound: nothing is read before what is there was judged.

use std::ops::Range;

use tokio::time::{Instant, timeout_at};

use super::Way;
use crate::relay::Cut;
use crate::transfer::{read_behind, write_all};

/// What came of waiting for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Bytes,
    /// The agent has ended its direction.
    End,
    /// Time is up.
    Late,
}

#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// So many of them have gone on already: the beginning of a line that nobody can act on.
    sent: usize,
}

impl Held {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Tells whether everything here has gone on.
    pub(super) fn is_sent(&self) -> bool {
        self.sent > 0 && self.sent == self.bytes.len()
    }

    /// Reads more, waiting for it.
    pub(super) async fn more(
        &mut self,
        way: &Way<'_>,
        deadline: Option<Instant>,
    ) -> Result<More, Cut> {
        loop {
            match read_behind(way.agent, &way.shared.relay, &mut self.bytes)? {
                Some(0) => return Ok(More::End),
                Some(_) => return Ok(More::Bytes),
                None => {}
            }
            match deadline {
                None => way.agent.readable().await?,
                Some(deadline) => match timeout_at(deadline, way.agent.readable()).await {
                    Ok(readable) => readable?,
                    Err(_elapsed) => return Ok(More::Late),
                },
            }
        }
    }

    /// Lets everything go on and keeps it all the same.
    pub(super) async fn send_on(&mut self, way: &Way<'_>) -> Result<(), Cut> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default().to_vec();
        self.sent = self.bytes.len();
        write_all(way.upstream, rest, &way.traffic.sent).await?;
        Ok(())
    }

    /// Lets the first bytes go on.
    pub(super) async fn release(&mut self, way: &Way<'_>, count: usize) -> Result<(), Cut> {
        let sent = self.drop_first(count);
        if sent.is_empty() {
            return Ok(());
        }
        write_all(way.upstream, sent, &way.traffic.sent).await?;
        Ok(())
    }

    pub(super) async fn release_all(&mut self, way: &Way<'_>) -> Result<(), Cut> {
        self.release(way, self.bytes.len()).await
    }

    /// Takes parts, which are in order, out of the first bytes; tells how many of those are left. What has gone on already
    /// cannot be taken back: that is at most the beginning of the first line.
    pub(super) fn leave_out(&mut self, first: usize, parts: &[Range<usize>]) -> usize {
        let mut left = first;
        for part in parts.iter().rev() {
            if part.start >= self.sent && part.end <= self.bytes.len() {
                self.bytes.drain(part.clone());
                left -= part.len();
            }
        }
        left
    }

    /// Takes the first bytes away and returns those of them that have not gone on.
    pub(super) fn drop_first(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        let gone = self.sent.min(count);
        self.sent -= gone;
        if count == self.bytes.len() {
            let mut all = std::mem::take(&mut self.bytes);
            all.drain(..gone);
            return all;
        }
        self.bytes.drain(..count).skip(gone).collect()
    }
}
