//! What a server has for its operator: who watches it, and the listener of the admin API.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ServerError;
use crate::admin_socket::{AdminAddress, AdminListener};
use crate::http::admin;
use crate::http::metrics::Exposition;
use crate::operator::{NamedStore, NamedTree, Operator, WatchedStores};
use crate::shutdown::{self, Readiness};
use crate::store::BlobStore;
use crate::store::filesystem::{FilesystemStore, VALUES_DIR};

/// The operator's part of a running server.
#[derive(Debug)]
pub(super) struct RunningOperator {
    pub(super) operator: Arc<Operator>,
    admin_address: Option<AdminAddress>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningOperator {
    /// Begins to watch the stores, and listens where an address is given.
    pub(super) async fn start(
        exposition: &Exposition,
        trees: Vec<(String, Arc<dyn BlobStore>)>,
        values: Option<&Arc<FilesystemStore>>,
        readiness: Readiness,
        admin: Option<AdminAddress>,
    ) -> Result<Self, ServerError> {
        let stores = exposition.stores().iter();
        let named = stores.map(|(name, store)| NamedStore {
            name: name.clone(),
            store: Arc::clone(store),
            holds_values: values.is_some_and(|values| Arc::ptr_eq(values, store)),
        });
        let metrics = Arc::clone(exposition.metrics());
        let tree = |name, store, holds_values| NamedTree { name, store, holds_values };
        let mut trees: Vec<_> =
            trees.into_iter().map(|(name, store)| tree(name, store, false)).collect();
        trees.extend(values.map(|values| {
            tree(VALUES_DIR.to_owned(), Arc::<FilesystemStore>::clone(values), true)
        }));
        let others = exposition.watched().iter();
        let stores = WatchedStores {
            files: named.collect(),
            trees,
            others: others.map(|(name, it)| (name.clone(), Arc::new(it.clone()) as _)).collect(),
        };
        let operator = Operator::new(stores, metrics, readiness);
        let stop = CancellationToken::new();
        let mut admin_address = None;
        let mut tasks = Vec::new();
        if let Some(address) = admin {
            let failed = |source| ServerError::Admin { address: address.clone(), source };
            let listener = AdminListener::bind(&address).await.map_err(failed)?;
            let bound = listener.address().map_err(failed)?;
            warn_if_open(&bound);
            tracing::info!(address = %bound, "admin API open");
            admin_address = Some(bound);
            let serving = admin::serve(listener, Arc::clone(&operator), stop.clone());
            tasks.push(shutdown::spawn("admin", serving));
        }
        let watching = Arc::clone(&operator).run(stop.clone());
        tasks.push(shutdown::spawn("operator", watching));
        Ok(Self { operator, admin_address, stop, tasks })
    }

    /// Where the admin API is.
    pub(super) fn admin_address(&self) -> Option<&AdminAddress> {
        self.admin_address.as_ref()
    }

    /// Ends both; requests that are under way are cut off.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        super::join_all(self.tasks).await;
    }
}

/// The admin API knows no passwords.
fn warn_if_open(address: &AdminAddress) {
    if let AdminAddress::Tcp(tcp) = address
        && !tcp.ip().is_loopback()
    {
        tracing::warn!(%address, "whoever reaches the admin API can purge everything");
    }
}
