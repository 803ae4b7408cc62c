//! Clients of other servers, for the command line.

pub mod worker;
