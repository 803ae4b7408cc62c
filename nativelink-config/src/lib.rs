//! The types of the configuration files of `NativeLink`.

mod diagnostic;
mod document;
mod excerpt;
pub mod expand;
mod path;
pub mod units;
