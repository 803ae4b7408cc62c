//! The types of NativeLink configuration files.

mod excerpt;
pub mod expand;
pub mod units;
