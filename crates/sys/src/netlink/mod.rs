//! A small netlink client: rtnetlink for links, addresses and routes, nf_tables for the router's rules.
//!
//! Theory of operation. A *batch* is a buffer of netlink messages that goes to the kernel in one `send(2)`. Both
//! families handle it synchronously inside that call, so every answer is already queued when it returns: the client
//! reads without waiting until the queue is empty. Only the last message asks for an acknowledgement; the kernel
//! reports a refused message in any case. A batch has therefore succeeded exactly when no error arrived and the
//! last message was acknowledged. rtnetlink messages take effect one by one, an nf_tables batch as a whole.
//!
//! Interface indexes are chosen by us (both namespaces are new), which makes every message independent of the
//! answers to earlier ones: a namespace is configured with one call in each direction.
//!
//! Must not: start threads or programs, join namespaces, keep state between batches, or decide any policy.

mod addresses;
mod batch;
mod constants;
mod error;
mod nftables;
mod parse;
mod route;
pub mod router;
mod socket;

pub use addresses::interface_addresses;
pub use error::NetlinkError;
pub use socket::{NetfilterSocket, RouteSocket};
