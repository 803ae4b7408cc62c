//! Jobs go on when nobody waits for them; long ones look at whether somebody does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::staging::StageError;
use crate::store::StoreError;

/// Tells jobs that nobody waits for them any more, when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Caller(Stop);

/// Whether the caller is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Caller {
    /// What jobs look at.
    pub(super) fn stop(&self) -> Stop {
        self.0.clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Stop {
    /// An error, which nobody sees, when the caller is gone.
    pub(super) fn check(&self) -> Result<(), StageError> {
        if self.0.load(Ordering::Relaxed) { Err(StoreError::ShuttingDown.into()) } else { Ok(()) }
    }
}
