//! What is kept is what the derived decoding gives; what is too much is counted.

use bytes::Bytes;
use prost::Message as _;

use super::{Bounded, MAX_ENTRIES};
use crate::messages::{
    BatchReadBlobsRequest, BatchUpdateBlob, BatchUpdateBlobsRequest, Digest, GetActionResultRequest,
};

fn digest() -> Digest {
    Digest { hash: Bytes::from_static(b"abc"), size_bytes: 3 }
}

fn update() -> BatchUpdateBlobsRequest {
    let data = Bytes::from_static(b"data");
    let blob = BatchUpdateBlob { digest: Some(digest()), data, compressor: 1 };
    BatchUpdateBlobsRequest {
        instance_name: "main".to_owned(),
        requests: vec![blob.clone(), BatchUpdateBlob::default(), blob],
        digest_function: 9,
    }
}

#[test]
fn what_is_kept_is_what_was_encoded() {
    let encoded = update().encode_to_vec();
    let bounded = Bounded::<BatchUpdateBlobsRequest>::decode(&*encoded).unwrap();
    assert_eq!((&bounded.message, bounded.excess), (&update(), 0));
    assert_eq!(bounded.encode_to_vec(), encoded);

    let read = BatchReadBlobsRequest {
        instance_name: "main".to_owned(),
        digests: vec![digest(); 3],
        acceptable_compressors: vec![1, 0],
        digest_function: 9,
    };
    let bounded = Bounded::<BatchReadBlobsRequest>::decode(&*read.encode_to_vec()).unwrap();
    let kept = BatchReadBlobsRequest { acceptable_compressors: Vec::new(), ..read };
    assert_eq!((bounded.message, bounded.excess), (kept, 0));

    let get = GetActionResultRequest {
        instance_name: "main".to_owned(),
        action_digest: Some(digest()),
        inline_stdout: true,
        inline_stderr: true,
        inline_output_files: vec!["a".to_owned(), String::new()],
        digest_function: 9,
    };
    let bounded = Bounded::<GetActionResultRequest>::decode(&*get.encode_to_vec()).unwrap();
    assert_eq!((bounded.message, bounded.excess), (get, 0));
}

#[test]
fn a_truncated_request_is_refused_as_ever() {
    let encoded = update().encode_to_vec();
    for end in 0..encoded.len() {
        let derived = BatchUpdateBlobsRequest::decode(&encoded[..end]);
        let bounded = Bounded::<BatchUpdateBlobsRequest>::decode(&encoded[..end]);
        assert_eq!(bounded.map(|it| it.message).ok(), derived.ok(), "{end}");
    }
}

#[test]
fn i22_eight_million_empty_entries_are_counted_and_not_built() {
    let entries = 8 << 20;
    let encoded = [0x12, 0].repeat(entries);
    let update = Bounded::<BatchUpdateBlobsRequest>::decode(&*encoded).unwrap();
    assert_eq!(
        (update.message.requests.len(), update.excess),
        (MAX_ENTRIES, entries - MAX_ENTRIES)
    );
    let read = Bounded::<BatchReadBlobsRequest>::decode(&*encoded).unwrap();
    assert_eq!((read.message.digests.len(), read.excess), (MAX_ENTRIES, entries - MAX_ENTRIES));
    let encoded = [0x2a, 0].repeat(entries);
    let get = Bounded::<GetActionResultRequest>::decode(&*encoded).unwrap();
    assert_eq!(get.message.inline_output_files.len(), MAX_ENTRIES);
    let mut packed = vec![0x1a, 0x80, 0x80, 0x80, 0x04];
    packed.resize(packed.len() + (8 << 20), 1);
    let read = Bounded::<BatchReadBlobsRequest>::decode(&*packed).unwrap();
    assert_eq!(read.message.acceptable_compressors.capacity(), 0);
}
