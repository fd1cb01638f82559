//! A pool that is larger than the memory allowed: rows are made when asked for and forgotten afterwards.

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use curate_core::{Budget, ChunkSource, Ctx, Memory, Pool, Result, find};
use curate_selectors::{FILTERS, SELECTORS};
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DIM: usize = 64;
const CHUNK_ROWS: usize = 5_000;
const CHUNKS: usize = 20;

/// Rows around sixteen centres, each row a function of its position.
struct Made {
    chunk: usize,
    loads: Arc<AtomicUsize>,
}

fn noise(i: usize) -> f32 {
    let mixed = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 40) as f32 / (1 << 24) as f32
}

fn field() -> Field {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Field::new("embedding", DataType::FixedSizeList(item, DIM as i32), false)
}

impl ChunkSource for Made {
    fn rows(&self) -> usize {
        CHUNK_ROWS
    }

    fn load(&self, _columns: &[&str]) -> Result<RecordBatch> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let number = |i: usize| {
            let centre = if (i / DIM) % 16 == i % DIM { 4.0 } else { 0.0 };
            centre + noise(i)
        };
        let start = self.chunk * CHUNK_ROWS * DIM;
        let values = Float32Array::from_iter_values((start..start + CHUNK_ROWS * DIM).map(number));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let list: ArrayRef = Arc::new(FixedSizeListArray::new(item, DIM as i32, Arc::new(values), None));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(vec![field()])), vec![list])?)
    }
}

fn pool() -> (Pool, Arc<AtomicUsize>) {
    let loads = Arc::new(AtomicUsize::new(0));
    let made = |chunk| Arc::new(Made { chunk, loads: loads.clone() }) as Arc<dyn ChunkSource>;
    (Pool::lazy(Arc::new(Schema::new(vec![field()])), (0..CHUNKS).map(made).collect()), loads)
}

/// The vectors take 25.6 MB; a structure may take 6 MiB.
fn tight() -> Ctx {
    Ctx::new(17).with_memory(Memory::limited(8 << 20))
}

#[test]
fn kmq_reads_the_vectors_twice_and_never_holds_them() {
    let (pool, loads) = pool();
    let params = Map::from_iter([("k".to_owned(), json!(16)), ("restarts".to_owned(), json!(4))]);
    let method = find(SELECTORS, "kmeans-quality", "method").unwrap().build(&params).unwrap();
    let chosen = method.select(&pool, Budget::Rows(1600), &tight()).unwrap();
    assert_eq!(loads.load(Ordering::Relaxed), 2 * CHUNKS, "once to gather the sample, once to assign");
    let reached: BTreeSet<u64> = chosen.rows().iter().take(64).map(|row| row % 16).collect();
    assert_eq!((chosen.picks.len(), reached.len()), (1600, 16));
}

#[test]
fn k_center_reads_them_again_for_every_pick() {
    let (pool, _) = pool();
    let method = find(SELECTORS, "k-center", "method").unwrap().build(&Map::new()).unwrap();
    let chosen = method.select(&pool, Budget::Rows(4), &tight()).unwrap();
    assert_eq!(chosen.rows().iter().map(|row| row % 16).collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn facility_location_says_that_it_needs_more() {
    let method = find(SELECTORS, "facility-location", "method").unwrap().build(&Map::new()).unwrap();
    let error = method.select(&pool().0, Budget::Rows(4), &tight()).unwrap_err();
    assert_eq!(error.code(), "memory/too-small");
}

#[test]
fn semantic_dedup_goes_cell_by_cell() {
    let params = Map::from_iter([("epsilon".to_owned(), json!(0.0)), ("k".to_owned(), json!(32))]);
    let filter = find(FILTERS, "semantic-dedup", "filter").unwrap().build(&params).unwrap();
    let verdict = filter.judge(&pool().0, &tight()).unwrap();
    assert!(verdict.keep.iter().all(|&kept| kept), "no two rows are equal");
}
