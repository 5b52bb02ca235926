//! destruction
