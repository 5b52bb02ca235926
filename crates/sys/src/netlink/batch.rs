//! Builds a buffer of netlink messages that is sent with one call.
//!
//! Must not: send anything. Layout: `netlink(7)`; every message and attribute starts on a multiple of four bytes,
//! lengths and numbers are in host byte order unless a message type says otherwise.

use super::constants::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST,
};

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
pub(super) const ATTRIBUTE_HEADER: usize = 4;

/// What one message is for, kept so that a refusal can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Name of the message type, for example `RTM_NEWLINK`.
    pub(super) call: &'static str,
    /// What it acts on, for example `veth pair`.
    pub(super) on: &'static str,
    /// What it is for, as an infinitive, for example `create the veth pair`.
    pub(super) action: &'static str,
}

/// Messages under construction. The sequence number of a message is its position, counted from 1.
pub(super) struct Batch {
    buffer: Vec<u8>,
    steps: Vec<Step>,
    /// Offset of the message that is being written.
    current: Option<usize>,
    /// Offset and step number of the last message that changes something (batch brackets do not count).
    last_step: Option<(usize, u32)>,
}

/// An attribute that contains attributes and has not been closed yet.
#[must_use = "a nest has to be closed"]
pub(super) struct Nest(usize);

impl Batch {
    /// Starts an empty batch.
    pub(super) fn new() -> Self {
        Self {
            // Larger than any batch of this module (the rules take about 3 KiB): one allocation.
            buffer: Vec::with_capacity(4096),
            steps: Vec::with_capacity(32),
            current: None,
            last_step: None,
        }
    }

    /// Starts the next message; `fixed` is the header that the message type puts before its attributes.
    pub(super) fn message(&mut self, step: Step, kind: u16, flags: u16, fixed: &[u8]) {
        let start = self.start(step, kind, flags, fixed);
        self.last_step = Some((start, self.count()));
    }

    /// Opens an nf_tables transaction: what lies between the brackets takes effect as a whole or not at all.
    pub(super) fn transaction_begin(&mut self, subsystem: u16) {
        let [high, low] = subsystem.to_be_bytes();
        let step = Step {
            call: "NFNL_MSG_BATCH_BEGIN",
            on: "nf_tables",
            action: "commit the nf_tables rules",
        };
        // struct nfgenmsg: family, version, resource id in network byte order.
        self.start(step, NFNL_MSG_BATCH_BEGIN, 0, &[0, 0, high, low]);
    }

    /// Closes an nf_tables transaction.
    pub(super) fn transaction_end(&mut self, subsystem: u16) {
        let [high, low] = subsystem.to_be_bytes();
        let step = Step {
            call: "NFNL_MSG_BATCH_END",
            on: "nf_tables",
            action: "commit the nf_tables rules",
        };
        self.start(step, NFNL_MSG_BATCH_END, 0, &[0, 0, high, low]);
    }

    fn start(&mut self, step: Step, kind: u16, flags: u16, fixed: &[u8]) -> usize {
        self.end_message();
        let start = self.buffer.len();
        self.steps.push(step);
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer
            .extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        let sequence = self.count();
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]); // port: the kernel fills ours in
        self.buffer.extend_from_slice(fixed);
        self.pad();
        self.current = Some(start);
        start
    }

    /// Adds an attribute to the current message.
    pub(super) fn attribute(&mut self, kind: u16, payload: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(payload);
        self.patch_attribute(start);
        self.pad();
    }

    /// Adds a string attribute with its terminating NUL.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(text.as_bytes());
        self.buffer.push(0);
        self.patch_attribute(start);
        self.pad();
    }

    /// Adds a 32-bit number in host byte order, as rtnetlink wants them.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Adds a 32-bit number in network byte order, as nf_tables wants them.
    pub(super) fn number_be(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Opens an attribute that contains attributes.
    pub(super) fn open(&mut self, kind: u16) -> Nest {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer
            .extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        Nest(start)
    }

    /// Writes a bare structure inside a nest, where an attribute's format asks for one (`VETH_INFO_PEER`).
    pub(super) fn structure(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pad();
    }

    /// Closes a nest.
    pub(super) fn close(&mut self, nest: Nest) {
        self.patch_attribute(nest.0);
    }

    /// Completes the batch: lengths are filled in and the last step asks for an acknowledgement.
    pub(super) fn finish(mut self) -> FinishedBatch {
        self.end_message();
        if let Some((start, _)) = self.last_step {
            let flags =
                u16::from_ne_bytes([self.buffer[start + 6], self.buffer[start + 7]]) | NLM_F_ACK;
            self.buffer[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        FinishedBatch {
            last_sequence: self.last_step.map_or(0, |(_, sequence)| sequence),
            bytes: self.buffer,
            steps: self.steps,
        }
    }

    fn count(&self) -> u32 {
        length_u32(self.steps.len())
    }

    fn end_message(&mut self) {
        if let Some(start) = self.current.take() {
            let length = length_u32(self.buffer.len() - start);
            self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn patch_attribute(&mut self, start: usize) {
        #[expect(
            clippy::expect_used,
            reason = "attributes hold names, addresses and rules of this module: a few hundred bytes"
        )]
        let length =
            u16::try_from(self.buffer.len() - start).expect("an attribute is shorter than 64 KiB");
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.buffer.resize(align4(self.buffer.len()), 0);
    }
}

/// A batch ready to be sent.
pub(super) struct FinishedBatch {
    /// The messages.
    pub(super) bytes: Vec<u8>,
    /// What each message is for; the message with sequence number `n` is at `n - 1`.
    pub(super) steps: Vec<Step>,
    /// Sequence number of the message that asks for an acknowledgement; 0 when there is no such message.
    pub(super) last_sequence: u32,
}

/// Rounds up to the alignment of netlink messages and attributes.
pub(super) const fn align4(length: usize) -> usize {
    (length + 3) & !3
}

#[expect(
    clippy::expect_used,
    reason = "batches are built from a handful of messages, far below 4 GiB"
)]
fn length_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a batch is shorter than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step {
        call: "TEST",
        on: "x",
        action: "test",
    };

    #[test]
    fn pads_attributes_and_counts_only_their_bytes() {
        let mut batch = Batch::new();
        batch.message(STEP, 0x1234, 0, &[9]);
        batch.text(3, "lo");
        let done = batch.finish();
        let mut expected = Vec::new();
        expected.extend_from_slice(&28_u32.to_ne_bytes());
        expected.extend_from_slice(&0x1234_u16.to_ne_bytes());
        expected.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        expected.extend_from_slice(&1_u32.to_ne_bytes());
        expected.extend_from_slice(&[0, 0, 0, 0, 9, 0, 0, 0]);
        expected.extend_from_slice(&7_u16.to_ne_bytes());
        expected.extend_from_slice(&3_u16.to_ne_bytes());
        expected.extend_from_slice(&[b'l', b'o', 0, 0]);
        assert_eq!(done.bytes, expected);
        assert_eq!(done.last_sequence, 1);
    }

    #[test]
    fn nests_count_everything_inside() {
        let mut batch = Batch::new();
        batch.message(STEP, 1, 0, &[]);
        let outer = batch.open(1);
        let inner = batch.open(2);
        batch.number(3, 7);
        batch.close(inner);
        batch.close(outer);
        let bytes = batch.finish().bytes;
        assert_eq!(u16::from_ne_bytes([bytes[16], bytes[17]]), 16);
        assert_eq!(u16::from_ne_bytes([bytes[18], bytes[19]]), 1 | NLA_F_NESTED);
        assert_eq!(u16::from_ne_bytes([bytes[20], bytes[21]]), 12);
    }

    #[test]
    fn only_the_last_step_asks_for_an_acknowledgement() {
        let mut batch = Batch::new();
        batch.transaction_begin(10);
        batch.message(STEP, 1, 0, &[]);
        batch.message(STEP, 2, 0, &[]);
        batch.transaction_end(10);
        let done = batch.finish();
        assert_eq!(done.last_sequence, 3);
        let flags: Vec<u16> = (0..4)
            .map(|index| match index {
                0 => 0,
                1 => 20,
                2 => 36,
                _ => 52,
            })
            .map(|start| u16::from_ne_bytes([done.bytes[start + 6], done.bytes[start + 7]]))
            .collect();
        assert_eq!(
            flags,
            [
                NLM_F_REQUEST,
                NLM_F_REQUEST,
                NLM_F_REQUEST | NLM_F_ACK,
                NLM_F_REQUEST
            ]
        );
    }
}
