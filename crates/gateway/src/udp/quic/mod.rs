//! Holds QUIC connections to the name of their destination.
//!
//! # Theory of operation
//! A QUIC connection begins with a packet of type Initial. Its keys come from its own Destination Connection ID, which the client
//! chose, so everybody on the path can read it (RFC 9001 section 5.2). It carries the ClientHello in CRYPTO frames, in any order and
//! over several packets. Only a packet that opens with the keys of its own connection ID can begin a connection at a server.
//!
//! The guard of a flow reads every Initial packet. It holds all datagrams of the flow until the hello is complete, and lets them
//! go when the hello is for the name. What was said once may be said again, but not differently: a server that lost the first
//! form would read the second. A second hello of the same connection, after HelloRetryRequest, has to be for the name too.
//!
//! - `wire`: where packets are. `keys`: opens them. `crypto`: frames and the stream in them. `guard`: the judgement.
//!
//! Must not change a datagram, and must not look at anything but Initial packets.

mod crypto;
mod guard;
mod keys;
mod wire;

pub(super) use guard::{Guard, Passage, SeenConnections, Strictness};
pub(super) use wire::begins_like_quic;
