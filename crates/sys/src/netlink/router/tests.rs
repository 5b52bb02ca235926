//! Golden bytes of every message.
