//! DNS: the wire format, and the service that answers every packet to port 53.

pub(crate) mod answer;
pub(crate) mod name;
pub(crate) mod query;
pub(crate) mod response;
mod reverse;
mod service;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod wire;
