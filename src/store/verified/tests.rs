//! A source that may lie, in every way, at every length.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::digest::DigestFunction;

/// Gives these chunks, then ends.
#[derive(Debug)]
struct Chunks(VecDeque<Bytes>);

#[async_trait]
impl BlobSource for Chunks {
    fn remaining_bytes(&self) -> u64 {
        unreachable!("a source that is not believed is not asked")
    }

    async fn next(&mut self, _max_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.pop_front())
    }
}

fn blob(len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<u8>>().into()
}

/// What is handed out, and the error it ends with.
async fn read(
    sent: &[u8],
    digest: Digest,
    range: ByteRange,
    chunk_bytes: usize,
) -> (Vec<u8>, Option<StoreError>) {
    let chunks = sent.chunks(chunk_bytes).map(Bytes::copy_from_slice).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let mut verified = Verified::new(Box::new(Chunks(chunks)), digest, range, move || {
        counter.fetch_add(1, Ordering::Relaxed);
        StoreError::Corrupt { key: "it".to_owned() }
    });
    let mut received = Vec::new();
    loop {
        let before = verified.remaining_bytes();
        match verified.next(7).await {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty() && chunk.len() <= 7);
                assert_eq!(verified.remaining_bytes(), before - chunk.len() as u64);
                received.extend_from_slice(&chunk);
            }
            Ok(None) => {
                assert_eq!(before, 0);
                assert!(verified.next(7).await.unwrap().is_none());
                return (received, None);
            }
            Err(error) => {
                assert!(verified.next(7).await.is_err(), "an error stays");
                assert_eq!(asked.load(Ordering::Relaxed), 1);
                return (received, Some(error));
            }
        }
    }
}

#[tokio::test]
async fn every_part_of_every_blob_comes_whole() {
    for function in DigestFunction::ALL {
        for len in [0, 1, 2, 10, 23] {
            let data = blob(len);
            let digest = Digest::of(function, &data);
            for (offset, limit) in
                [(0, None), (0, Some(1)), (1, Some(3)), (5, None), (9, Some(1)), (99, Some(1))]
            {
                let range = ByteRange { offset, limit };
                let from = usize::try_from(offset).unwrap().min(len);
                let wanted = usize::try_from(range.len_within(len as u64)).unwrap();
                for chunk_bytes in [1, 3, 10, 100] {
                    let (received, error) = read(&data, digest, range, chunk_bytes).await;
                    assert!(error.is_none(), "{len} {range:?}: {error:?}");
                    assert_eq!(received, &data[from..from + wanted]);
                }
            }
        }
    }
}

#[tokio::test]
async fn i20_no_lie_ends_well_and_its_last_chunk_is_withheld() {
    let data = blob(40);
    let digest = Digest::of(DigestFunction::Sha256, &data);
    let mut wrong = data.to_vec();
    wrong[39] ^= 1;
    let long = [&data[..], b"x"].concat();
    for sent in [&wrong[..], &long, &data[..39], &[]] {
        for (offset, limit) in [(0, None), (0, Some(10)), (39, Some(1)), (40, None)] {
            for chunk_bytes in [1, 10, 40, 41] {
                let range = ByteRange { offset, limit };
                let (received, error) = read(sent, digest, range, chunk_bytes).await;
                assert!(error.is_some(), "{} {range:?}", sent.len());
                let wanted = usize::try_from(range.len_within(40)).unwrap();
                assert!(received.len() < wanted.max(1), "{range:?}: {}", received.len());
            }
        }
    }
}
