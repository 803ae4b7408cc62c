//! The services over a real loopback socket and a real store in a temporary directory.

mod batches;
mod misc;
mod reads;
mod room;
mod support;
mod trees;
mod turns;
mod uploads;
