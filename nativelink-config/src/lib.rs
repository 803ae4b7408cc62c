//! The types of NativeLink configuration files.
