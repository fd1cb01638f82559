//! Files of every kind as one numbered sequence of rows.

use crate::{Desk, all, strings, utf8};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, StringViewArray};
use curate_ingest::{InputSpec, Kind, Source};
use std::sync::Arc;

fn many(rows: usize) -> RecordBatch {
    let text: ArrayRef =
        Arc::new((0..rows).map(|i| Some(format!("text {i} {}", "x".repeat(i % 50)))).collect::<StringArray>());
    let number: ArrayRef = Arc::new((0..rows).map(|i| i64::try_from(i).ok()).collect::<Int64Array>());
    RecordBatch::try_from_iter([("text", text), ("n", number)]).unwrap()
}

fn numbers(source: &Source) -> Vec<i64> {
    let column = |batch: &RecordBatch| {
        batch.column_by_name("n").unwrap().as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
    };
    all(source).iter().flat_map(column).collect()
}

#[test]
fn the_same_rows_come_out_of_every_kind() {
    let desk = Desk::new();
    let batch = many(20_000);
    for name in ["x.parquet", "x.jsonl", "x.json", "x.csv", "x.tsv", "x.arrow", "x.jsonl.gz", "x.csv.zst"] {
        let source = desk
            .open(&InputSpec::of(desk.put_batch(name, &[batch.slice(0, 7000), batch.slice(7000, 13_000)])))
            .unwrap();
        assert_eq!(source.rows(), 20_000, "{name}");
        assert_eq!(
            arrow::compute::concat_batches(source.schema(), &all(&source)).unwrap().columns(),
            batch.columns(),
            "{name}"
        );
        assert!(source.units().len() >= 3, "{name}");
        assert!(source.units().iter().all(|u| u.rows <= 8192), "{name}");
        let starts: Vec<u64> = source.units().iter().map(|u| u.first_row).collect();
        assert!(starts.is_sorted() && starts[0] == 0, "{name}");
    }
}

#[test]
fn units_may_be_read_in_any_order_and_by_column() {
    let desk = Desk::new();
    for name in ["x.parquet", "x.jsonl", "x.arrow", "x.csv"] {
        let source = desk.open(&InputSpec::of(desk.put_batch(name, &[many(30_000)]))).unwrap();
        let forward: Vec<RecordBatch> = all(&source);
        for unit in source.units().iter().rev() {
            assert_eq!(source.read(unit, None).unwrap().batch, forward[unit.index], "{name}");
            let only = source.read(unit, Some(&["n".to_owned()])).unwrap();
            assert_eq!(only.batch.num_columns(), 1);
            assert_eq!(only.batch.column(0), forward[unit.index].column_by_name("n").unwrap());
            let none = source.read(unit, Some(&[])).unwrap();
            assert_eq!(
                (none.batch.num_columns(), none.batch.num_rows(), none.rows.len()),
                (0, unit.rows as usize, unit.rows as usize)
            );
        }
        assert_eq!(source.read(&source.units()[0], Some(&["zz".to_owned()])).unwrap_err().code(), "column/missing");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for unit in source.units() {
                        assert_eq!(source.read(unit, None).unwrap().batch, forward[unit.index]);
                    }
                });
            }
        });
    }
}

#[test]
fn wide_rows_make_small_units() {
    let desk = Desk::new();
    let text: ArrayRef =
        Arc::new((0..64).map(|i| Some(format!("{i}{}", rand_text(1 << 20, i)))).collect::<StringArray>());
    let path = desk.put_batch("x.parquet", &[RecordBatch::try_from_iter([("text", text)]).unwrap()]);
    let source = desk.open(&InputSpec::of(path)).unwrap();
    assert!(source.units().len() >= 2, "{}", source.units().len());
    assert_eq!(all(&source).iter().map(RecordBatch::num_rows).sum::<usize>(), 64);
}

/// Text that does not compress.
fn rand_text(bytes: usize, seed: u64) -> String {
    let mut reader = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut raw = vec![0; bytes];
    reader.fill(&mut raw);
    raw.iter().map(|b| char::from(b'!' + b % 90)).collect()
}

#[test]
fn digests_survive_appending() {
    let desk = Desk::new();
    let line = |i: usize| format!("{{\"text\":\"row {i}\"}}\n");
    let text: String = (0..20_000).map(line).collect();
    let digests = |text: &str| {
        let source = desk.open_text("x.jsonl", text).unwrap();
        source.units().iter().map(|u| u.digest).collect::<Vec<_>>()
    };
    let before = digests(&text);
    let after = digests(&format!("{text}{}", (0..9000).map(line).collect::<String>()));
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2], after[2]);
    assert_eq!(digests(&text), before);
    let changed = digests(&text.replacen("row 3\"", "row 4\"", 1));
    assert_ne!(changed[0], before[0]);
    assert_eq!(changed[1..], before[1..]);
    let a = desk.put_batch("a.parquet", &[many(10_000)]);
    let b = desk.put_batch("b.parquet", &[many(100)]);
    let units = |paths: &[&String]| {
        let spec = InputSpec { paths: paths.iter().map(ToString::to_string).collect(), ..InputSpec::default() };
        desk.open(&spec).unwrap().units().iter().map(|u| u.digest).collect::<Vec<_>>()
    };
    assert_eq!(units(&[&a])[..], units(&[&a, &b])[..2]);
}

#[test]
fn shards_in_any_column_order_are_reconciled() {
    let desk = Desk::new();
    for i in 0..200 {
        let (q, a, x) = (format!("q{i}"), format!("a{i}"), format!("x{i}"));
        let batch = match i % 4 {
            0 => utf8(&[("question", &[&q]), ("answer", &[&a])]),
            1 => utf8(&[("answer", &[&a]), ("question", &[&q])]),
            2 => utf8(&[("extra", &[&x]), ("answer", &[&a]), ("question", &[&q])]),
            _ => {
                let view: ArrayRef = Arc::new(StringViewArray::from(vec![q.as_str()]));
                RecordBatch::try_from_iter([
                    ("question", view),
                    ("answer", Arc::new(StringArray::from(vec![a.as_str()])) as ArrayRef),
                ])
                .unwrap()
            }
        };
        desk.put_batch(&format!("shards/{i:03}.parquet"), &[batch]);
    }
    let source = desk.open(&InputSpec::of(desk.name("shards"))).unwrap();
    assert_eq!((source.files().len(), source.rows()), (200, 200));
    let names: Vec<&str> = source.schema().fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["question", "answer", "extra"]);
    for (i, batch) in all(&source).iter().enumerate() {
        assert_eq!(strings(batch, "question"), [Some(format!("q{i}"))]);
        assert_eq!(strings(batch, "answer"), [Some(format!("a{i}"))]);
        assert_eq!(batch.column_by_name("extra").unwrap().null_count(), usize::from(i % 4 != 2));
    }
}

#[test]
fn kinds_mix_and_integers_widen() {
    let desk = Desk::new();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["p"]));
    let small: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1]));
    let a = desk.put_batch("a.parquet", &[RecordBatch::try_from_iter([("text", text), ("n", small)]).unwrap()]);
    let b = desk.put("b.jsonl", "{\"n\":2,\"text\":\"j\"}\n");
    let c = desk.put("c.csv", "text,n\nc,3\n");
    let source = desk.open(&InputSpec { paths: vec![a, b, c], ..InputSpec::default() }).unwrap();
    assert_eq!(numbers(&source), [1, 2, 3]);
    assert_eq!(source.files().iter().map(|f| f.kind).collect::<Vec<_>>(), [Kind::Parquet, Kind::Jsonl, Kind::Csv]);
}

#[test]
fn where_drops_rows_and_keeps_ids() {
    let desk = Desk::new();
    let path = desk.put_batch("x.parquet", &[many(20_000)]);
    let spec = InputSpec { where_: Some("n % 1000 = 7 AND text LIKE 'text%'".into()), ..InputSpec::of(path) };
    let source = desk.open(&spec).unwrap();
    assert_eq!(source.rows(), 20_000);
    let mut ids = Vec::new();
    for unit in source.units() {
        let data = source.read(unit, Some(&["text".to_owned()])).unwrap();
        assert_eq!(data.filtered + data.rows.len(), unit.rows as usize);
        assert_eq!(data.batch.num_rows(), data.rows.len());
        assert_eq!(source.read(unit, None).unwrap().rows, data.rows);
        ids.extend(data.rows);
    }
    assert_eq!(ids, (0..20u64).map(|i| i * 1000 + 7).collect::<Vec<_>>());
    let bad = InputSpec { where_: Some("n > AVG(n)".into()), ..spec };
    assert_eq!(desk.open(&bad).err().unwrap().code(), "where/not-row-local");
}

#[test]
fn arrow_streams_and_dictionaries_are_read() {
    let desk = Desk::new();
    let dictionary: arrow::array::DictionaryArray<arrow::datatypes::Int32Type> = ["a", "b", "a"].into_iter().collect();
    let batch = RecordBatch::try_from_iter([("text", Arc::new(dictionary) as ArrayRef)]).unwrap();
    let mut stream = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    stream.write(&batch).unwrap();
    stream.finish().unwrap();
    let path = desk.put("x.arrow", stream.into_inner().unwrap());
    let source = desk.open(&InputSpec::of(path.clone())).unwrap();
    assert_eq!(all(&source), std::slice::from_ref(&batch));
    assert_eq!(desk.read(&InputSpec::of(path)).unwrap()[1].embed, "b");
    let options = arrow::ipc::writer::IpcWriteOptions::default();
    for packing in [arrow::ipc::CompressionType::LZ4_FRAME, arrow::ipc::CompressionType::ZSTD] {
        let options = options.clone().try_with_compression(Some(packing)).unwrap();
        let mut packed =
            arrow::ipc::writer::FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
        packed.write(&batch).unwrap();
        packed.finish().unwrap();
        let path = desk.put("packed.feather", packed.into_inner().unwrap());
        assert_eq!(all(&desk.open(&InputSpec::of(path)).unwrap()), std::slice::from_ref(&batch));
    }
    let file = desk.put_batch("y.feather", std::slice::from_ref(&batch));
    assert_eq!(all(&desk.open(&InputSpec::of(file)).unwrap()), [batch]);
}

#[test]
fn csv_keeps_what_is_not_plainly_a_number() {
    let desk = Desk::new();
    let source = desk
        .open_text("x.csv", "\u{feff}text,zip,n,f,b,e\r\n\"a\nb, \"\"c\"\"\",007,1,0.5,true,\r\nd,8,-2,3.25,false,\r\n")
        .unwrap();
    let types: Vec<String> =
        source.schema().fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
    assert_eq!(types, ["text:Utf8", "zip:Utf8", "n:Int64", "f:Float64", "b:Boolean", "e:Utf8"]);
    let batch = &all(&source)[0];
    assert_eq!(strings(batch, "text"), [Some("a\nb, \"c\"".into()), Some("d".into())]);
    assert_eq!(strings(batch, "zip")[0].as_deref(), Some("007"));
    assert_eq!(strings(batch, "e")[0].as_deref(), Some(""));
}

#[test]
fn mixed_columns_keep_their_json_text() {
    let desk = Desk::new();
    let source = desk
        .open_text(
            "x.jsonl",
            "{\"text\":\"t\",\"id\":1}\n{\"text\":\"u\",\"id\":\"x\"}\n{\"text\":\"v\",\"id\":{\"a\": [1.0]}}\n",
        )
        .unwrap();
    assert_eq!(
        strings(&all(&source)[0], "id"),
        [Some("1".into()), Some("\"x\"".into()), Some("{\"a\": [1.0]}".into())]
    );
}
