//! The one integration test binary: a module for each area of behavior.

#[cfg(test)]
mod bazel_files;
#[cfg(test)]
mod bytestream_read;
#[cfg(test)]
mod bytestream_resume;
#[cfg(test)]
mod bytestream_write;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod eviction;
#[cfg(test)]
mod process;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tidy;
