//! Reading parts.

use castellan::digest::DigestFunction;
use castellan::store::Key;

use super::values::{
    assert_same, drain, key_of, main_namespace, noise, open_part, put, result_key, text,
};
use super::{Open, Opened, Wanted};
use crate::support::Blob;

/// Where stores have their seams: buffers, blocks, inline sizes, chunks.
const SEAMS: [u64; 4] = [4 << 10, 64 << 10, 256 << 10, 512 << 10];

/// Every beginning with every length that a seam or an end could spoil.
async fn read_every_part(opened: &Opened, key: &Key, data: &[u8]) {
    let len = data.len() as u64;
    let mut offsets = vec![0, 1, len / 2, len.saturating_sub(1), len, len + 1, len + (1 << 20)];
    offsets.extend(SEAMS.iter().flat_map(|seam| [seam - 1, *seam, seam + 1]));
    offsets.retain(|offset| *offset <= len + (1 << 20));
    offsets.sort_unstable();
    offsets.dedup();
    for offset in offsets {
        let rest = len.saturating_sub(offset);
        let limits = [0, 1, 4096, (64 << 10) + 1, rest.saturating_sub(1), rest, rest + 1, u64::MAX];
        for limit in limits.map(Some).into_iter().chain([None]) {
            let reader = open_part(&*opened.store, key, offset, limit).await;
            let wanted = limit.unwrap_or(u64::MAX).min(rest);
            assert_eq!(reader.remaining_bytes(), wanted, "{offset} {limit:?}");
            let read = drain(reader, 256 << 10).await;
            let from = usize::try_from(offset.min(len)).unwrap();
            let to = from + usize::try_from(wanted).unwrap();
            assert_same(&read, &data[from..to]);
        }
    }
}

async fn of_a_blob(open: Open, blob: Blob) {
    let opened = open(Wanted::ROOMY).await;
    put(&*opened.store, &blob).await;
    read_every_part(&opened, &key_of(&blob), &blob.data).await;
    opened.settle().await;
}

pub(super) async fn every_boundary_of_a_small_blob(open: Open) {
    of_a_blob(open, Blob::random(1, 4 << 10)).await;
    of_a_blob(open, Blob::random(2, 1)).await;
}

pub(super) async fn every_boundary_of_a_large_blob(open: Open) {
    of_a_blob(open, Blob::random(3, (600 << 10) + 5)).await;
}

pub(super) async fn what_can_be_compressed_reads_the_same(open: Open) {
    of_a_blob(open, Blob::with(DigestFunction::Blake3, text(4, (600 << 10) + 5))).await;
}

pub(super) async fn every_boundary_of_a_result(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    for len in [1, 300, (64 << 10) + 5] {
        let key = result_key(main_namespace(), &len.to_string());
        let data = noise(len as u64, len);
        opened.store.put(&key, data.clone().into()).await.unwrap();
        read_every_part(&opened, &key, &data).await;
    }
    opened.settle().await;
}

pub(super) async fn chunks_are_no_larger_than_asked_for(open: Open) {
    let opened = open(Wanted::ROOMY).await;
    let blob = Blob::random(5, (300 << 10) + 7);
    put(&*opened.store, &blob).await;
    let key = key_of(&blob);
    for max_bytes in [997, 4 << 10, 64 << 10, (64 << 10) + 1, 4 << 20, usize::MAX] {
        // `drain` looks at every chunk.
        let reader = open_part(&*opened.store, &key, 0, None).await;
        assert_same(&drain(reader, max_bytes).await, &blob.data);
        let reader = open_part(&*opened.store, &key, 1, Some(200 << 10)).await;
        assert_same(&drain(reader, max_bytes).await, &blob.data[1..=200 << 10]);
    }
    let reader = open_part(&*opened.store, &key, 299 << 10, Some(40)).await;
    assert_same(&drain(reader, 1).await, &blob.data[299 << 10..(299 << 10) + 40]);
    opened.settle().await;
}
