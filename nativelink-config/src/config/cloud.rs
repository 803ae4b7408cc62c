//! The `experimental_cloud_object_store` of a file: read and checked, and not run by this version.

use super::retry::{self, Retry};
use crate::document::Node;
use crate::reader::{Reader, Table};
use std::time::Duration;

/// The settings of an `experimental_cloud_object_store`.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudStore {
    /// Where the objects are.
    pub provider: CloudProvider,
    /// How they are kept there.
    pub objects: ObjectSettings,
}

/// Where the objects of a cloud store are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudProvider {
    /// `aws`: Amazon S3.
    Aws {
        /// The region of the bucket.
        region: String,
        /// The bucket.
        bucket: String,
    },
    /// `gcs`: Google Cloud Storage.
    Gcs(GcsBucket),
    /// `azure`: Azure Blob Storage.
    Azure(AzureContainer),
    /// `ontap`: `NetApp` ONTAP with its S3 protocol.
    Ontap(OntapBucket),
    /// `r2`: Cloudflare R2.
    R2 {
        /// The account.
        account_id: String,
        /// The bucket.
        bucket: String,
        /// Who asks; absent is what the environment says.
        keys: AccessKeys,
    },
    /// `oci`: Oracle Cloud Infrastructure.
    Oci {
        /// The namespace of the tenancy.
        namespace: String,
        /// The region of the bucket.
        region: String,
        /// The bucket.
        bucket: String,
        /// Who asks; absent is what the environment says.
        keys: AccessKeys,
    },
}

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsBucket {
    /// The bucket.
    pub bucket: String,
    /// How much one request of a resumable upload carries, in bytes.
    pub resumable_chunk_size: u64,
    /// Whether it is an error that there are no credentials.
    pub authentication_required: bool,
    /// How long connecting may take.
    pub connection_timeout: Duration,
    /// How long an answer may take.
    pub read_timeout: Duration,
}

/// A container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureContainer {
    /// The account; empty with a `sas_url`.
    pub account_name: String,
    /// The container; empty with a `sas_url`.
    pub container: String,
    /// Another host than the account's own.
    pub endpoint: Option<String>,
    /// A signed URL that replaces the other three.
    pub sas_url: Option<String>,
}

/// A bucket of ONTAP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OntapBucket {
    /// The URL of the server.
    pub endpoint: String,
    /// The storage virtual machine.
    pub vserver_name: String,
    /// The bucket.
    pub bucket: String,
    /// A file of certificates that the server is checked against.
    pub root_certificates: Option<String>,
}

/// A key and its secret, in the manner of S3.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessKeys {
    /// The key.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<String>,
}

/// What all providers have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectSettings {
    /// What stands before every name in the bucket.
    pub key_prefix: Option<String>,
    /// What happens after a failure.
    pub retry: Retry,
    /// Objects that are older count as missing, because somebody else will delete them.
    pub consider_expired_after: Option<Duration>,
    /// How much of an upload is kept for another attempt, in bytes; 0 is nothing.
    pub max_retry_buffer_per_request: u64,
    /// How many parts of one upload are under way at a time.
    pub multipart_max_concurrent_uploads: u64,
    /// Whether connections may do without TLS.
    pub insecure_allow_http: bool,
    /// Whether connections are HTTP/1.1 only.
    pub disable_http2: bool,
}

#[derive(Clone, Copy)]
enum Provider {
    Aws,
    Gcs,
    Azure,
    Ontap,
    R2,
    Oci,
}

const PROVIDERS: &[(&str, Provider)] = &[
    ("aws", Provider::Aws),
    ("gcs", Provider::Gcs),
    ("azure", Provider::Azure),
    ("ontap", Provider::Ontap),
    ("r2", Provider::R2),
    ("oci", Provider::Oci),
];

pub(super) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<CloudStore> {
    reader.object(node, |table| {
        let provider = table.required("provider", |reader, node| reader.choice(node, PROVIDERS));
        let Some(provider) = provider else {
            // Which other keys are right depends on it.
            table.accept_any_key();
            return None;
        };
        let provider = match provider {
            Provider::Aws => read_aws(table),
            Provider::Gcs => read_gcs(table),
            Provider::Azure => read_azure(table),
            Provider::Ontap => read_ontap(table).map(CloudProvider::Ontap),
            Provider::R2 => read_r2(table),
            Provider::Oci => read_oci(table),
        };
        let objects = read_objects(table);
        Some(CloudStore { provider: provider?, objects })
    })
}

fn read_aws(table: &mut Table<'_, '_, '_>) -> Option<CloudProvider> {
    let region = table.required("region", Reader::text);
    let bucket = table.required("bucket", Reader::text);
    Some(CloudProvider::Aws { region: region?, bucket: bucket? })
}

fn read_gcs(table: &mut Table<'_, '_, '_>) -> Option<CloudProvider> {
    let bucket = table.required("bucket", Reader::text);
    let resumable_chunk_size =
        table.optional("resumable_chunk_size", Reader::size).unwrap_or(2 << 20);
    let authentication_required = table.flag("authentication_required");
    // Whatever their names say: the format counts both in milliseconds.
    let mut timeout = |key| {
        let timeout = table.optional(key, Reader::milliseconds);
        timeout.filter(|timeout| !timeout.is_zero()).unwrap_or(Duration::from_secs(3))
    };
    let (connection_timeout, read_timeout) =
        (timeout("connection_timeout_s"), timeout("read_timeout_s"));
    Some(CloudProvider::Gcs(GcsBucket {
        bucket: bucket?,
        resumable_chunk_size,
        authentication_required,
        connection_timeout,
        read_timeout,
    }))
}

fn read_azure(table: &mut Table<'_, '_, '_>) -> Option<CloudProvider> {
    let endpoint = table.optional("endpoint", Reader::text);
    let sas_url = table.optional("sas_url", Reader::text);
    let mut part = |key| match sas_url {
        Some(_) => Some(table.optional(key, Reader::text).unwrap_or_default()),
        None => table.required(key, Reader::text),
    };
    let (account_name, container) = (part("account_name"), part("container"));
    Some(CloudProvider::Azure(AzureContainer {
        account_name: account_name?,
        container: container?,
        endpoint,
        sas_url,
    }))
}

pub(super) fn read_ontap(table: &mut Table<'_, '_, '_>) -> Option<OntapBucket> {
    let endpoint = table.required("endpoint", Reader::text);
    let vserver_name = table.required("vserver_name", Reader::text);
    let bucket = table.required("bucket", Reader::text);
    let root_certificates = table.optional("root_certificates", Reader::file_path);
    Some(OntapBucket {
        endpoint: endpoint?,
        vserver_name: vserver_name?,
        bucket: bucket?,
        root_certificates,
    })
}

fn read_r2(table: &mut Table<'_, '_, '_>) -> Option<CloudProvider> {
    let account_id = table.required("account_id", Reader::text);
    let bucket = table.required("bucket", Reader::text);
    let keys = read_keys(table);
    Some(CloudProvider::R2 { account_id: account_id?, bucket: bucket?, keys })
}

fn read_oci(table: &mut Table<'_, '_, '_>) -> Option<CloudProvider> {
    let namespace = table.required("namespace", Reader::text);
    let region = table.required("region", Reader::text);
    let bucket = table.required("bucket", Reader::text);
    let keys = read_keys(table);
    Some(CloudProvider::Oci { namespace: namespace?, region: region?, bucket: bucket?, keys })
}

fn read_keys(table: &mut Table<'_, '_, '_>) -> AccessKeys {
    AccessKeys {
        access_key_id: table.optional("access_key_id", Reader::text),
        secret_access_key: table.optional("secret_access_key", Reader::text),
    }
}

pub(super) fn read_objects(table: &mut Table<'_, '_, '_>) -> ObjectSettings {
    ObjectSettings {
        key_prefix: table.optional("key_prefix", Reader::text),
        retry: table.optional("retry", retry::read).unwrap_or_default(),
        consider_expired_after: table.optional("consider_expired_after_s", Reader::nonzero_seconds),
        max_retry_buffer_per_request: table
            .optional("max_retry_buffer_per_request", Reader::size)
            .unwrap_or(5 << 20),
        multipart_max_concurrent_uploads: table
            .optional("multipart_max_concurrent_uploads", Reader::count)
            .unwrap_or(10),
        insecure_allow_http: table.flag("insecure_allow_http"),
        disable_http2: table.flag("disable_http2"),
    }
}
