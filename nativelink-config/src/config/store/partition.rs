//! Stores that send each blob to one of several others.

use super::super::facts::Facts;
use super::{Backend, read_backend};
use crate::document::{Node, Value};
use crate::reader::Reader;
use std::ops::RangeInclusive;

const WEIGHTS: RangeInclusive<u32> = 1..=u32::MAX;

/// The settings of a `size_partitioning` store.
#[derive(Debug, Clone, PartialEq)]
pub struct SizePartitioningStore {
    /// The least size of what goes to the upper store, in bytes.
    pub size: u64,
    /// Where smaller blobs go.
    pub lower_store: Backend,
    /// Where the others go.
    pub upper_store: Backend,
}

/// The settings of a `shard` store.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardStore {
    /// Where blobs go, at least one; the sum of the weights fits 32 bits.
    pub stores: Vec<Shard>,
}

/// One part of a `shard` store.
#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    /// Where its blobs go.
    pub store: Backend,
    /// Its share of the blobs in proportion to the others; never 0.
    pub weight: u32,
}

pub(super) fn read_size_partitioning(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<SizePartitioningStore> {
    reader.object(node, |table| {
        let size = table.required("size", Reader::size);
        let lower_store =
            table.required("lower_store", |reader, node| read_backend(reader, node, facts));
        let upper_store =
            table.required("upper_store", |reader, node| read_backend(reader, node, facts));
        Some(SizePartitioningStore {
            size: size?,
            lower_store: lower_store?,
            upper_store: upper_store?,
        })
    })
}

pub(super) fn read_shard(
    reader: &mut Reader<'_>,
    node: &Node,
    facts: &mut Facts,
) -> Option<ShardStore> {
    reader.object(node, |table| {
        let stores = table.required("stores", |reader, node| {
            if matches!(&node.value, Value::List(nodes) if nodes.is_empty()) {
                reader.report(node.at, "there has to be at least one store");
            }
            let shards = reader.list(node, |reader, node| read_part(reader, node, facts))?;
            let sum: u64 = shards.iter().map(|shard| u64::from(shard.weight)).sum();
            if u32::try_from(sum).is_err() {
                reader.report(node.at, format!("the sum of the weights, {sum}, is too large"));
            }
            Some(shards)
        });
        Some(ShardStore { stores: stores? })
    })
}

fn read_part(reader: &mut Reader<'_>, node: &Node, facts: &mut Facts) -> Option<Shard> {
    reader.object(node, |table| {
        let store = table.required("store", |reader, node| read_backend(reader, node, facts));
        let weight = table.optional("weight", |reader, node| {
            reader.within_range(node, &WEIGHTS, "a weight of at least 1", Reader::small_count)
        });
        Some(Shard { store: store?, weight: weight.unwrap_or(1) })
    })
}
