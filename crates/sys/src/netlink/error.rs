//! What can go wrong when talking netlink.
//!
//! Must not: interpret why the kernel refused; the extended acknowledgement is shown, never matched on.

use thiserror::Error;

use crate::SysError;

/// A netlink exchange that failed.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("cannot talk to the kernel over netlink")]
    Socket {
        /// The failed call.
        #[source]
        source: SysError,
    },
    /// The kernel refused one message of a batch. `call` of the source is the message type.
    #[error("the kernel refused to {action}{}", explanation(.kernel_text))]
    Refused {
        /// What the message was for, as an infinitive.
        action: &'static str,
        /// The kernel's own words (`NLMSGERR_ATTR_MSG`, `netlink(7)`), when it gave any.
        kernel_text: Option<String>,
        /// Message type, object and errno.
        #[source]
        source: SysError,
    },
    /// The kernel reported no error and did not acknowledge the last message either.
    #[error("the kernel did not acknowledge the attempt to {action}")]
    Unacknowledged {
        /// What the last message of the batch was for.
        action: &'static str,
    },
    /// The kernel's answer does not follow the netlink format.
    #[error("the kernel's netlink answer is malformed: {what}")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// A name or a value that cannot be put into a message.
    #[error("cannot use {value:?} as {what}")]
    Unusable {
        /// What the value was for.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// The link did not become operational in time.
    #[error("the interface with index {index} did not come up within {waited_ms} ms")]
    LinkStaysDown {
        /// Interface index in its namespace.
        index: u32,
        /// How long was waited.
        waited_ms: u64,
    },
}

fn explanation(text: &Option<String>) -> String {
    text.as_ref()
        .map_or_else(String::new, |text| format!(" ({text})"))
}
