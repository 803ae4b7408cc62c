//! Stopping.

use std::cell::Cell;
use std::io;

use super::{ServerError, first_error};

#[tokio::test]
async fn a_store_that_fails_to_stop_keeps_no_other_from_it() {
    let stopped = Cell::new(0);
    let outcomes = [Ok(()), Err("first"), Ok(()), Err("second"), Ok(())];
    let failed = |root: &str| ServerError::Stop {
        root: root.to_owned(),
        source: io::Error::from(io::ErrorKind::StorageFull),
    };
    let stops = outcomes.into_iter().map(|outcome| {
        stopped.set(stopped.get() + 1);
        std::future::ready(outcome.map_err(failed))
    });
    let error = first_error(stops).await.unwrap_err();
    assert!(matches!(error, ServerError::Stop { root, .. } if root == "first"));
    assert_eq!(stopped.get(), 5);
}
