//! `Capabilities`: every field says what the other methods do (reapi 90-93), and what is not
//! announced is not served (reapi 18, 35).

use bytes::Bytes;
use castellan::digest::DigestFunction;
use castellan::store::filesystem::{Cap, FilesystemOptions};
use castellan_proto::v2;
use castellan_proto::v2::symlink_absolute_path_strategy::Value as SymlinkStrategy;
use tonic::Code;

use crate::support::{
    Blob, Subject, TestServer, assert_all_present, assert_code, directory, raw_call, start_store,
};

const V2: &str = "/build.bazel.remote.execution.v2.";

async fn capabilities(server: &TestServer, instance_name: &str) -> v2::ServerCapabilities {
    let request = v2::GetCapabilitiesRequest { instance_name: instance_name.to_owned() };
    server.capabilities().get_capabilities(request).await.unwrap().into_inner()
}

/// The methods below are what the announced and the missing fields mean.
#[tokio::test]
async fn reapi_90_93_94_nothing_is_announced_that_is_not_served() {
    let server = TestServer::start().await;
    let all = capabilities(&server, "").await;
    let cache = all.cache_capabilities.clone().unwrap();
    let expected = v2::CacheCapabilities {
        digest_functions: vec![1, 9],
        action_cache_update_capabilities: Some(v2::ActionCacheUpdateCapabilities {
            update_enabled: true,
        }),
        max_batch_total_size_bytes: (4 << 20) - (128 << 10),
        symlink_absolute_path_strategy: SymlinkStrategy::Allowed.into(),
        max_cas_blob_size_bytes: cache.max_cas_blob_size_bytes,
        ..v2::CacheCapabilities::default()
    };
    assert_eq!(cache, expected, "a new field needs a test of what it announces");
    // No deprecated version, and no execution, whose errors name missing blobs (reapi 94).
    assert!(all.execution_capabilities.is_none());
    assert!(all.deprecated_api_version.is_none());
    let execute = format!("{V2}Execution/Execute");
    let outcome = raw_call(&server.channel, &execute, vec![Bytes::new()]).await;
    assert_code(outcome, Code::Unimplemented);
    // The same for any instance.
    assert_eq!(capabilities(&server, "a/b/c").await, all);
}

/// Bazel 2 to 9 ask for 2.0, and chunking clients for 2.13.
#[tokio::test]
async fn reapi_91_api_versions_from_2_0_to_2_13_are_served() {
    let server = TestServer::start().await;
    let all = capabilities(&server, "").await;
    let [low, high] = [all.low_api_version, all.high_api_version].map(Option::unwrap);
    assert_eq!((low.major, low.minor, low.patch, low.prerelease.as_str()), (2, 0, 0, ""));
    assert_eq!((high.major, high.minor, high.patch, high.prerelease.as_str()), (2, 13, 0, ""));
}

#[tokio::test]
async fn reapi_90_digest_functions_are_those_that_work() {
    let server = TestServer::start().await;
    let cache = capabilities(&server, "").await.cache_capabilities.unwrap();
    let file = Blob::new("file");
    let data = directory(&[("functions", &file)], &[]).data;
    for function in DigestFunction::ALL {
        assert!(cache.digest_functions.contains(&function.to_wire()));
        let subject = Subject::of(&Blob::with(function, data.clone()));
        assert_all_present(&subject.calls(&server).await);
    }
    let good = Subject::of(&Blob::new(data));
    for digest_function in (1..=10).filter(|it| !cache.digest_functions.contains(it)) {
        let subject = Subject { digest_function, ..good.clone() };
        for (method, outcome) in subject.calls(&server).await {
            if !matches!(method, "Read" | "Write" | "QueryWriteStatus") {
                assert_code(outcome, Code::InvalidArgument);
            }
        }
    }
}

#[tokio::test]
async fn reapi_90_max_batch_total_size_bytes_is_what_a_batch_may_have() {
    let server = TestServer::start().await;
    let cache = capabilities(&server, "").await.cache_capabilities.unwrap();
    let limit = usize::try_from(cache.max_batch_total_size_bytes).unwrap();
    for (len, is_ok) in [(limit, true), (limit + 1, false)] {
        // Bytes that encode a Directory: one unknown field.
        let head = [&b"\xfa\x3f"[..], &[0; 4]].concat();
        let mut data = [head, vec![7; len - 6]].concat();
        let mut varint = Vec::new();
        prost::encoding::encode_varint(len as u64 - 6, &mut varint);
        assert_eq!(varint.len(), 4);
        data[2..6].copy_from_slice(&varint);
        let subject = Subject::of(&Blob::new(data));
        for (method, outcome) in subject.write_calls(&server).await {
            let expected = is_ok || method != "BatchUpdateBlobs";
            assert_eq!(outcome.is_ok(), expected, "{method} of {len} bytes: {outcome:?}");
        }
        for (method, outcome) in subject.read_calls(&server).await {
            let expected = is_ok || !matches!(method, "BatchReadBlobs");
            assert_eq!(outcome.is_ok(), expected, "{method} of {len} bytes: {outcome:?}");
        }
    }
}

#[tokio::test]
async fn reapi_90_max_cas_blob_size_bytes_is_what_a_blob_may_have() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = FilesystemOptions::new(directory.path(), Cap::Bytes(64 << 20));
    store.max_blob_bytes = Some(100_000);
    let server = start_store(directory, store).await;
    let cache = capabilities(&server, "").await.cache_capabilities.unwrap();
    assert_eq!(cache.max_cas_blob_size_bytes, 100_000);
    for (len, is_ok) in [(100_000, true), (100_001, false)] {
        let subject = Subject::of(&Blob::random(90, len));
        for (method, outcome) in subject.write_calls(&server).await {
            if method == "UpdateActionResult" {
                continue;
            }
            assert_eq!(outcome.is_ok(), is_ok, "{method} of {len} bytes: {outcome:?}");
            if let Err(status) = outcome {
                assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
                assert!(status.message().contains("100000"), "{method}: {status:?}");
            }
        }
    }
    assert_eq!(server.store().stats().evictions, 0);
}

/// Without a configured limit it is what fits under the cap, and such a blob really does.
#[tokio::test]
async fn reapi_90_the_largest_announced_blob_can_be_stored() {
    let server = crate::support::start_small().await;
    let cache = capabilities(&server, "").await.cache_capabilities.unwrap();
    let limit = usize::try_from(cache.max_cas_blob_size_bytes).unwrap();
    let [whole, small] = [limit, 10].map(|len| Blob::random(90, len));
    server.put(&[&small, &whole]).await;
    assert_eq!(server.read(&whole.read_name()).await.unwrap(), whole.data);
    // One byte more is refused, and for that nothing is thrown out.
    let over = Blob::random(91, limit + 1);
    assert_code(server.write(&over.write_name(), &over.data).await, Code::InvalidArgument);
    assert_eq!(server.missing(&[&whole]).await.len(), 0);
}

#[tokio::test]
async fn reapi_90_no_compressor_is_announced_and_none_is_served() {
    let server = TestServer::start().await;
    let cache = capabilities(&server, "").await.cache_capabilities.unwrap();
    assert!(cache.supported_compressors.is_empty());
    assert!(cache.supported_batch_update_compressors.is_empty());
    let blob = Blob::new("compressed");
    server.put(&[&blob]).await;
    let compressed = |compressor: &str| format!("compressed-blobs/{compressor}/{}", blob.digest);
    for compressor in ["zstd", "deflate", "brotli"] {
        let outcome = server.read(&compressed(compressor)).await;
        let status = assert_code(outcome, Code::InvalidArgument);
        assert!(status.message().contains("compress"), "{status:?}");
        let name = format!("uploads/u/{}", compressed(compressor));
        let outcome = server.write(&name, &Bytes::from_static(b"x")).await;
        assert_code(outcome, Code::InvalidArgument);
    }
}

/// A blob is one file, so what 18 asks for the chunks of a blob holds for the blob.
#[tokio::test]
async fn reapi_18_35_92_chunking_is_not_announced_and_not_served() {
    let server = TestServer::start().await;
    let cache = capabilities(&server, "").await.cache_capabilities.unwrap();
    assert!(!cache.split_blob_support && !cache.splice_blob_support);
    assert!(cache.fast_cdc_2020_params.is_none() && cache.rep_max_cdc_params.is_none());
    for method in ["SplitBlob", "SpliceBlob", "GetChunkMapping", "RegisterChunkMapping"] {
        let method = format!("{V2}ContentAddressableStorage/{method}");
        for request in [vec![Bytes::new()], vec![], vec![Bytes::from_static(b"\xff"); 3]] {
            assert_code(raw_call(&server.channel, &method, request).await, Code::Unimplemented);
        }
    }
}
