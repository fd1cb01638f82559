//! Object stores: read in place or spooled, written when complete.

use crate::{Desk, all, utf8};
use arrow::array::RecordBatch;
use curate_core::{Ctx, Error};
use curate_ingest::{InputSpec, OutputSpec, Source, Stores, create_with};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use std::sync::Arc;

fn stores() -> Stores {
    Stores::default().with("mem://bucket", Arc::new(InMemory::new()))
}

fn batch(rows: usize) -> RecordBatch {
    let texts: Vec<String> = (0..rows).map(|i| format!("{i} {}", blake3::hash(&i.to_le_bytes()))).collect();
    utf8(&[("text", &texts.iter().map(String::as_str).collect::<Vec<_>>())])
}

fn put(stores: &Stores, url: &str, batch: &RecordBatch) -> Result<Vec<String>, Error> {
    let mut sink =
        create_with(&OutputSpec { shard_rows: Some(20_000), ..OutputSpec::of(url) }, batch.schema(), stores)?;
    sink.write(batch)?;
    Ok(sink.finish()?.files.into_iter().map(|file| file.path).collect())
}

fn open(desk: &Desk, stores: &Stores, url: &str) -> Result<Source, Error> {
    Source::open_with(&InputSpec::of(url), &desk.scratch(), stores, &Ctx::new(1))
}

fn rows(source: &Source) -> RecordBatch {
    arrow::compute::concat_batches(source.schema(), &all(source)).unwrap()
}

#[test]
fn objects_go_and_come_back() {
    let (desk, stores, data) = (Desk::new(), stores(), batch(50_000));
    for name in ["x.parquet", "x.jsonl", "x.csv", "x.arrow", "x.json", "x.jsonl.gz"] {
        let url = format!("mem://bucket/a/{name}");
        put(&stores, &url, &data).unwrap();
        let source = open(&desk, &stores, &url).unwrap();
        assert_eq!(rows(&source).columns(), data.columns(), "{name}");
        assert_eq!(source.files()[0].path, url);
        let last = source.units().last().unwrap();
        assert_eq!(source.read(last, None).unwrap().batch.num_rows(), last.rows as usize);
        assert_eq!(put(&stores, &url, &data).unwrap_err().code(), "output/exists", "{name}");
    }
    assert_eq!(open(&desk, &stores, "mem://bucket/a/none.parquet").err().unwrap().code(), "input/not-found");
    assert_eq!(open(&desk, &stores, "mem://bucket/empty/").err().unwrap().code(), "input/no-data");
}

#[test]
fn prefixes_and_patterns_list_objects() {
    let (desk, stores, data) = (Desk::new(), stores(), batch(50_000));
    let files = put(&stores, "mem://bucket/set/", &data).unwrap();
    assert_eq!(files.len(), 3);
    for url in ["mem://bucket/set", "mem://bucket/set/", "mem://bucket/set/*.parquet", "mem://bucket/*/part-*.parquet"]
    {
        let source = open(&desk, &stores, url).unwrap();
        assert_eq!(source.files().iter().map(|f| f.path.clone()).collect::<Vec<_>>(), files, "{url}");
        assert_eq!(rows(&source), data);
    }
    assert_eq!(put(&stores, "mem://bucket/set/", &data).unwrap_err().code(), "output/exists");
}

#[test]
fn large_uploads_go_in_parts_and_leave_nothing_when_dropped() {
    let (desk, stores, data) = (Desk::new(), stores(), batch(150_000));
    put(&stores, "mem://bucket/big.jsonl", &data).unwrap();
    assert_eq!(open(&desk, &stores, "mem://bucket/big.jsonl").unwrap().rows(), 150_000);
    let mut sink = create_with(&OutputSpec::of("mem://bucket/half.jsonl"), data.schema(), &stores).unwrap();
    sink.write(&data).unwrap();
    drop(sink);
    assert_eq!(open(&desk, &stores, "mem://bucket/half.jsonl").err().unwrap().code(), "input/not-found");
}

#[test]
fn a_folder_can_be_a_store() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("root")).unwrap();
    let store = LocalFileSystem::new_with_prefix(desk.path("root")).unwrap();
    let stores = Stores::default().with("disk://root", Arc::new(store));
    let data = batch(1000);
    put(&stores, "disk://root/x/y.parquet", &data).unwrap();
    assert_eq!(rows(&open(&desk, &stores, "disk://root/x/y.parquet").unwrap()), data);
    let file = format!("file://{}", desk.name("root/x/y.parquet"));
    assert_eq!(rows(&open(&desk, &stores, &file).unwrap()), data);
    put(&stores, &format!("file://{}", desk.name("z.parquet")), &data).unwrap();
    assert!(desk.path("z.parquet").exists());
}

#[test]
fn stores_may_be_used_inside_an_async_runtime() {
    let (desk, stores) = (Desk::new(), stores());
    put(&stores, "mem://bucket/x.parquet", &batch(10)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { assert_eq!(open(&desk, &stores, "mem://bucket/x.parquet").unwrap().rows(), 10) });
}
