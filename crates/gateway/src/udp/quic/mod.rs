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

/// For `fuzz/`: finds packets in a datagram, judges it, and reads the same bytes as what an opened packet holds.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    use crypto::{STREAM_LIMIT, Stream, parts};

    let mut guard = Guard::new(&std::sync::Arc::default(), &std::sync::Arc::default());
    let passage = guard.judge(bytes, Strictness::Strict, std::time::Instant::now(), |_| {
        panic!("nobody sealed a hello with these keys")
    });
    assert!(!matches!(passage, Passage::Release(_)), "nothing was held");
    let mut stream = Stream::default();
    for part in parts(bytes).unwrap_or_default() {
        let before = stream.from(0).to_vec();
        if stream.add(part).is_err() {
            break;
        }
        assert!(
            stream.from(0).starts_with(&before),
            "what was said has changed"
        );
        assert!(stream.length() <= STREAM_LIMIT);
    }
    let _ = crate::client_hello::parse_body(stream.from(0));
}
