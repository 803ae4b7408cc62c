//! The configuration files of `NativeLink`: JSON5 text to typed values, or every problem of the
//! text with its line and column.
//!
//! Types only: nothing here touches the file system, the environment or the network, and nothing
//! panics on any text. The caller reads the file, gives the environment as a function, and acts on
//! the result. The whole format is read. Parts that Castellan does not run are told apart from
//! mistakes and listed, so that no setting is ever silently without effect. What every key means,
//! and is when it is absent, is there as data too: for editors ([`schema`]) and for people who ask
//! what a file comes to ([`parse_with_settings`]).

mod config;
mod diagnostic;
mod document;
mod excerpt;
pub mod expand;
mod path;
mod reader;
mod schema;
mod secret;
pub mod units;

pub use config::address::{
    AddressError, Host, ListenAddress, SocketAddress, parse_listen_address, parse_socket_address,
};
pub use config::cloud::{
    AccessKeys, AzureContainer, CloudProvider, CloudStore, GcsBucket, ObjectSettings, OntapBucket,
};
pub use config::endpoint::{ClientTlsConfig, GrpcEndpoint};
pub use config::global::{DigestFunction, GlobalConfig};
pub use config::listener::{
    AdvancedHttp, CompressionCodec, HttpCompression, HttpListener, Listener, TlsConfig,
};
pub use config::mongo::MongoStore;
pub use config::ontap::OntapExistenceCache;
pub use config::redis::{RedisMode, RedisStore};
pub use config::remote_execution::{
    AssetService, BepService, ExecutionService, IdentityHeader, OriginEvents, OtherServices,
    WorkerApiService,
};
pub use config::retry::{ErrorCode, Retry};
pub use config::scheduler::{
    AllocationStrategy, CacheLookupScheduler, GrpcScheduler, HistoricalResourceScheduler,
    PropertyModification, PropertyModifierScheduler, PropertyReplacement, PropertyType, Scheduler,
    SchedulerBackend, SchedulerSpec, SimpleScheduler,
};
pub use config::server::Server;
pub use config::service::{
    AcService, AdminService, ByteStreamService, CapabilitiesService, CasService, Chunking,
    HealthService, Services,
};
pub use config::store::{
    Backend, CacheMetricsStore, CompletenessCheckingStore, CompressionAlgorithm, CompressionStore,
    DedupStore, Durability, EvictionPolicy, ExistenceCacheStore, FastSlowStore,
    FilesystemExtension, FilesystemStore, GrpcStore, LeasePressure, Lz4Config, MemoryStore,
    ReadBatching, Shard, ShardStore, SizePartitioningStore, Store, StoreDirection, StoreSpec,
    StoreType, UnsupportedStore, VerifyOnRead, VerifyStore, WriteBehind,
};
pub use config::worker::{
    DirectoryCache, EnvironmentSource, LocalWorker, UploadActionResult, UploadStrategy, Worker,
    WorkerApiEndpoint, WorkerProperty,
};
pub use config::{CasConfig, parse, parse_with_settings};
pub use diagnostic::{Diagnostic, Diagnostics, Located, Place};
pub use document::MAX_FILE_BYTES;
pub use reader::number::Interval;
pub use reader::trace::Effective;
pub use schema::schema;
pub use schema::settings::{Setting, Source};
