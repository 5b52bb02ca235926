//! A stand-in of the Messages API that a real agent can talk to.
