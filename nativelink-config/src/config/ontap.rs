//! The `ontap_s3_existence_cache` of a file: read and checked, and not run by this version.

use super::cloud::{ObjectSettings, OntapBucket, read_objects, read_ontap};
use crate::diagnostic::Located;
use crate::document::Node;
use crate::reader::Reader;
use std::time::Duration;

/// The settings of an `ontap_s3_existence_cache`.
#[derive(Debug, Clone, PartialEq)]
pub struct OntapExistenceCache {
    /// The file that has the list of objects.
    pub index_path: Located<String>,
    /// How often the list is made anew.
    pub sync_interval: Duration,
    /// Where the objects are.
    pub bucket: OntapBucket,
    /// How they are kept there.
    pub objects: ObjectSettings,
}

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<OntapExistenceCache> {
    reader.object(node, |table| {
        let index_path =
            table.required("index_path", |reader, node| reader.located(node, Reader::file_path));
        let sync_interval = table.required("sync_interval_seconds", Reader::seconds);
        let backend = table.required("backend", |reader, node| {
            reader.object(node, |table| {
                let bucket = read_ontap(table);
                let objects = read_objects(table);
                Some((bucket?, objects))
            })
        });
        let (bucket, objects) = backend?;
        Some(OntapExistenceCache {
            index_path: index_path?,
            sync_interval: sync_interval?,
            bucket,
            objects,
        })
    })
}
