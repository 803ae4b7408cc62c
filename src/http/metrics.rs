//! `GET /metrics`: everything that is counted, as Prometheus reads it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

pub use super::tree_metrics::Watched;
use super::{store_metrics, tree_metrics};
use crate::store::filesystem::FilesystemStore;
use crate::telemetry::metrics::{self, Family, Metrics, Samples, text};

/// What can be asked for its counters.
#[derive(Debug)]
pub struct Exposition {
    metrics: Arc<Metrics>,
    /// With the names that label them.
    stores: Vec<(String, Arc<FilesystemStore>)>,
    /// The same for stores of other kinds.
    watched: Vec<(String, Watched)>,
}

impl Exposition {
    /// The counters of the process and of these stores.
    pub fn new(
        metrics: Arc<Metrics>,
        stores: &[Arc<FilesystemStore>],
        watched: Vec<(String, Watched)>,
    ) -> Arc<Self> {
        let names = store_metrics::names(stores.iter().map(|store| store.root()));
        let stores = names.into_iter().zip(stores.iter().cloned()).collect();
        Arc::new(Self { metrics, stores, watched })
    }

    /// The counters of the process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The stores and what they are called.
    pub fn stores(&self) -> &[(String, Arc<FilesystemStore>)] {
        &self.stores
    }

    /// What all families say now.
    pub fn collect(&self) -> Samples {
        let mut samples = Samples::default();
        self.metrics.collect(&mut samples);
        for (name, store) in &self.stores {
            store_metrics::collect(name, &store.stats(), &mut samples);
            let predicted = store.predicted_hit_ratios();
            store_metrics::collect_predictions(
                name,
                predicted.as_slice().as_flattened(),
                &mut samples,
            );
        }
        for (name, store) in &self.watched {
            store.collect(name, &mut samples);
        }
        samples
    }

    /// The stores that are not files, and what they are called.
    pub fn watched(&self) -> &[(String, Watched)] {
        &self.watched
    }
}

/// Every family that `/metrics` may show, in its order.
pub fn families() -> Vec<&'static Family> {
    let mut families = metrics::families();
    families.extend(store_metrics::families());
    families.extend(tree_metrics::families());
    families
}

pub(super) fn routes(exposition: Arc<Exposition>) -> Router {
    Router::new().route("/metrics", get(show)).with_state(exposition)
}

async fn show(State(exposition): State<Arc<Exposition>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, text::CONTENT_TYPE)], text::encode(&exposition.collect()))
}
