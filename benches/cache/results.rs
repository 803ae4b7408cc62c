//! The action cache: results that name four blobs.

use bytes::Bytes;
use castellan::digest::Digest;
use castellan_proto::action_cache::action_cache_client::ActionCacheClient;
use castellan_proto::messages::{GetActionResultRequest, UpdateActionResultRequest};
use castellan_proto::v2;
use futures_util::stream::{self, StreamExt as _};
use prost::Message as _;
use tonic::transport::Channel;

use super::data::{self, Data};
use super::measure::{Amount, Bench};

const CONCURRENCY: usize = 8;
const ACTIONS: usize = 2000;
const READS: usize = 2;

pub(crate) async fn run(bench: &mut Bench<'_>, data: &Data) {
    let stored: Vec<Digest> = data.small[0].blobs.iter().map(|blob| blob.digest).collect();
    let actions: Vec<_> =
        data.absent.iter().zip(stored.chunks_exact(4)).take(ACTIONS).map(update).collect();
    let steps = Amount::Steps(ACTIONS as u64);
    bench.necessary_case("update action result", steps, |it| update_all(it, &actions)).await;
    let steps = Amount::Steps((ACTIONS * READS) as u64);
    bench.case("get action result", steps, |it| get_all(it, &actions)).await;
}

fn update((action, outputs): (&Digest, &[Digest])) -> UpdateActionResultRequest {
    let digest = |digest: &Digest| v2::Digest {
        hash: digest.hash_hex().as_str().to_owned(),
        size_bytes: digest.size_bytes as i64,
    };
    let output_files = outputs.iter().skip(1).map(|output| v2::OutputFile {
        path: format!("bazel-out/k8-fastbuild/bin/{}.o", output.hash_hex().as_str()),
        digest: Some(digest(output)),
        is_executable: true,
        ..v2::OutputFile::default()
    });
    let result = v2::ActionResult {
        output_files: output_files.collect(),
        stdout_digest: outputs.first().map(digest),
        ..v2::ActionResult::default()
    };
    UpdateActionResultRequest {
        action_digest: Some(data::wire(action)),
        action_result: Some(Bytes::from(result.encode_to_vec())),
        ..UpdateActionResultRequest::default()
    }
}

async fn update_all(channel: Channel, actions: &[UpdateActionResultRequest]) {
    let calls = stream::iter(actions).map(|request| {
        let mut client = ActionCacheClient::new(channel.clone());
        async move {
            client.update_action_result(request.clone()).await.unwrap();
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}

async fn get_all(channel: Channel, actions: &[UpdateActionResultRequest]) {
    let calls = stream::iter(actions.iter().cycle().take(ACTIONS * READS)).map(|action| {
        let mut client = ActionCacheClient::new(channel.clone());
        let action_digest = action.action_digest.clone();
        async move {
            let request = GetActionResultRequest { action_digest, ..Default::default() };
            client.get_action_result(request).await.unwrap();
        }
    });
    calls.buffer_unordered(CONCURRENCY).collect::<()>().await;
}
