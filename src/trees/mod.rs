//! L2: `Directory` and `Tree` messages as file systems must know them: checked, and made from files.
//!
//! A message is what a client chose to store. Nothing of it reaches a file system unchecked.

pub mod directory;
pub mod name;
pub mod on_disk;
#[cfg(test)]
mod tests;
pub mod tree;
