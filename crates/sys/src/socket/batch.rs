//! Many datagrams with one system call: `recvmmsg(2)` and `sendmmsg(2)`.
//!
//! A system call costs more than the copy of a usual datagram, so whoever relays datagrams moves them in batches.
//!
//! Must not: block, whatever the socket's mode; or hold more memory than its buffers, which are made once.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::{
    CONTROL_SPACE, Control, Name, empty_header, encode_v4, encode_v6, last_errno, mapped,
    original_destination, socket_address,
};
use crate::SysError;

/// Most datagrams that one call moves.
const MOST: usize = 64;

/// Buffers for the datagrams of one call. Pages that were never needed are never touched.
pub struct ReceiveBatch {
    slots: Vec<Slot>,
    slot_bytes: usize,
    buffer: Vec<u8>,
    /// How many slots the last call filled.
    filled: usize,
}

/// What belongs to one datagram beside its bytes.
struct Slot {
    name: Name,
    control: Control,
    length: usize,
    control_length: usize,
    flags: libc::c_int,
}

/// A datagram of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'batch> {
    /// Its bytes.
    pub payload: &'batch [u8],
    /// It was longer than the buffer; the rest is lost.
    pub truncated: bool,
    /// Who sent it; none on a socket that tells nobody's address.
    pub source: Option<SocketAddr>,
    /// Where it was sent to; none unless the socket was opened with [`super::transparent_udp_socket`].
    pub original_destination: Option<SocketAddr>,
}

impl ReceiveBatch {
    /// Makes buffers for `count` datagrams (at most 64) of at most `slot_bytes` bytes.
    #[must_use]
    pub fn new(count: usize, slot_bytes: usize) -> Self {
        let count = count.clamp(1, MOST);
        let slot = || Slot {
            name: Name([0; 128]),
            control: Control([0; CONTROL_SPACE]),
            length: 0,
            control_length: 0,
            flags: 0,
        };
        Self {
            slots: std::iter::repeat_with(slot).take(count).collect(),
            slot_bytes,
            buffer: vec![0; count.saturating_mul(slot_bytes)],
            filled: 0,
        }
    }

    /// Receives what is waiting and returns how many datagrams that were: `recvmmsg(2)`, never blocking.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is waiting. An error that the network reported for an earlier datagram of a connected socket, such as
    /// `ECONNREFUSED`; it is told once.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, SysError> {
        self.filled = 0;
        let mut vectors = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; MOST];
        let mut headers = [libc::mmsghdr {
            msg_hdr: empty_header(),
            msg_len: 0,
        }; MOST];
        let mut rest = self.buffer.as_mut_slice();
        for ((slot, vector), header) in self.slots.iter_mut().zip(&mut vectors).zip(&mut headers) {
            let Some((bytes, after)) = rest.split_at_mut_checked(self.slot_bytes) else {
                break;
            };
            rest = after;
            *vector = libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            };
            header.msg_hdr.msg_name = slot.name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = 128;
            header.msg_hdr.msg_iov = ptr::from_mut(vector);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = slot.control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_SPACE as _;
        }
        let count = libc::c_uint::try_from(self.slots.len()).unwrap_or(1);
        // SAFETY:
        // - the descriptor is borrowed and so stays open during the call;
        // - `headers` has MOST elements, of which the kernel uses `count`, the number of slots, which `new` keeps at most MOST;
        // - each of these headers points to one element of `vectors`, to the name and control arrays of its own slot with their
        //   exact lengths, and each vector to `slot_bytes` bytes of `buffer` that belong to no other;
        // - all of these outlive the call and nothing else refers to them meanwhile; the kernel writes plain bytes;
        // - the time-out may be null.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                (libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received)
            .map_err(|_| SysError::new("recvmmsg(2)", String::new(), last_errno()))?;
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(received) {
            slot.length = usize::try_from(header.msg_len).unwrap_or(0);
            slot.flags = header.msg_hdr.msg_flags;
            #[allow(
                clippy::useless_conversion,
                reason = "the length is 32 bits wide with other C libraries"
            )]
            let control_length = usize::try_from(header.msg_hdr.msg_controllen).unwrap_or(0);
            slot.control_length = control_length;
            if header.msg_hdr.msg_namelen == 0 {
                slot.name.0[..2].fill(0);
            }
        }
        self.filled = received;
        Ok(received)
    }

    /// The datagrams of the last call, in their order.
    pub fn datagrams(&self) -> impl Iterator<Item = Received<'_>> {
        let payloads = self.buffer.chunks(self.slot_bytes.max(1));
        self.slots
            .iter()
            .zip(payloads)
            .take(self.filled)
            .map(|(slot, bytes)| {
                let is_whole = slot.flags & libc::MSG_CTRUNC == 0;
                let control = slot.control.0.get(..slot.control_length);
                let destination = control.filter(|_| is_whole).and_then(original_destination);
                Received {
                    payload: bytes.get(..slot.length).unwrap_or_default(),
                    truncated: slot.flags & libc::MSG_TRUNC != 0,
                    source: socket_address(&slot.name.0),
                    original_destination: destination,
                }
            })
    }
}

/// A datagram or packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'bytes> {
    /// Bytes that come first; may be empty.
    pub header: &'bytes [u8],
    /// Bytes that follow.
    pub payload: &'bytes [u8],
    /// Where to; none on a connected socket.
    pub to: Option<IpAddr>,
}

/// Sends as many as possible, in order, and returns how many that were: `sendmmsg(2)`, never blocking.
///
/// At most 64 are sent by one call; the caller goes on with the rest. An address is that of a raw socket: without port.
///
/// # Errors
/// The error of the first one, when none was sent: `EAGAIN` when the socket's buffer is full, `EMSGSIZE` when it is longer than
/// the path allows, `EPERM` when the namespace's rules refuse it, or one that the network reported earlier.
pub fn send_many(socket: BorrowedFd<'_>, messages: &[Outgoing<'_>]) -> Result<usize, SysError> {
    let messages = messages.get(..MOST).unwrap_or(messages);
    let mut names = [const { Name([0; 128]) }; MOST];
    let mut vectors = [[libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; 2]; MOST];
    let mut headers = [libc::mmsghdr {
        msg_hdr: empty_header(),
        msg_len: 0,
    }; MOST];
    let parts = names.iter_mut().zip(&mut vectors).zip(&mut headers);
    for (message, ((name, vector), header)) in messages.iter().zip(parts) {
        *vector = [message.header, message.payload].map(|bytes| libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        });
        if let Some(address) = message.to {
            let address = SocketAddr::new(address, 0);
            let (encoded, length) = match address {
                SocketAddr::V4(_) => {
                    encode_v4(address).unwrap_or_else(|| encode_v6(mapped(address)))
                }
                SocketAddr::V6(v6) => encode_v6(v6),
            };
            *name = encoded;
            header.msg_hdr.msg_name = name.0.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = length;
        }
        header.msg_hdr.msg_iov = vector.as_mut_ptr();
        header.msg_hdr.msg_iovlen = 2;
    }
    let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
    // SAFETY:
    // - the descriptor is borrowed and so stays open during the call;
    // - `headers` has MOST elements, of which the kernel uses `count`, the number of messages, cut to MOST above;
    // - each of these headers points to two vectors of this frame and to a name of this frame with its initialised length, or to none;
    // - each vector points to borrowed bytes with their exact length; the kernel only reads them, so dropping `const` is
    //   harmless, and writes nothing but `msg_len` of the headers.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    usize::try_from(sent).map_err(|_| SysError::new("sendmmsg(2)", String::new(), last_errno()))
}
