//! Our side of the peer benchmarks: one JSON line for one workload, on the same `.npy` data as the Python peers.
//!
//! ```text
//! cargo bench -p curate-kernels --bench peers -- kmeans --data x.npy --start c.npy --iters 10 --threads 2 --reps 3
//! cargo bench -p curate-kernels --bench peers -- knn --data x.npy --queries q.npy --k 10 [--metric dot|l2]
//! cargo bench -p curate-kernels --bench peers -- join --data x.npy --k 10          (every row against all others)
//! cargo bench -p curate-kernels --bench peers -- ivf --data x.npy --k 10 --probes 8 (approximate join, with recall)
//! ```

#![allow(clippy::cast_precision_loss)] // reason: rates

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use curate_kernels::kmeans::{Init, KMeansParams, fit};
use curate_kernels::{Backend, MatRef, Metric, Neighbours};

type Failure = Box<dyn std::error::Error>;

/// A two-dimensional little-endian f32 array of `NumPy`'s format 1 or 2, C order.
fn read_npy(path: &str) -> Result<(Vec<f32>, usize), Failure> {
    let bytes = fs::read(path)?;
    let long = *bytes.get(6).ok_or("short file")? > 1;
    let start = if long { 12 } else { 10 };
    let header_bytes = if long {
        u32::from_le_bytes(bytes[8..12].try_into()?) as usize
    } else {
        usize::from(u16::from_le_bytes(bytes[8..10].try_into()?))
    };
    let header = std::str::from_utf8(&bytes[start..start + header_bytes])?;
    if !header.contains("<f4") || header.contains("'fortran_order': True") {
        return Err(format!("{path}: need C-order f32, found {header}").into());
    }
    let shape = header.split("'shape': (").nth(1).and_then(|s| s.split(')').next()).ok_or("no shape")?;
    let dim = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse()?;
    let body = bytes[start + header_bytes..].as_chunks::<4>().0;
    Ok((body.iter().map(|b| f32::from_le_bytes(*b)).collect(), dim))
}

/// User and system seconds of this process.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}

struct Args(BTreeMap<String, String>);

impl Args {
    fn text(&self, key: &str) -> Result<&str, Failure> {
        self.0.get(key).map(String::as_str).ok_or_else(|| format!("missing --{key}").into())
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.0.get(key).and_then(|v| v.parse().ok()).unwrap_or(default)
    }
}

/// Median seconds and median CPU seconds of `reps` runs, and the last result.
fn time<T>(reps: usize, mut run: impl FnMut() -> Result<T, Failure>) -> Result<(f64, f64, T), Failure> {
    let (mut wall, mut cpu, mut last) = (Vec::new(), Vec::new(), None);
    for _ in 0..reps.max(1) {
        let (c, t) = (cpu_seconds(), Instant::now());
        last = Some(run()?);
        wall.push(t.elapsed().as_secs_f64());
        cpu.push(cpu_seconds() - c);
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    Ok((wall[wall.len() / 2], cpu[cpu.len() / 2], last.ok_or("no run")?))
}

fn recall(found: &Neighbours, exact: &Neighbours) -> f64 {
    let rows = found.index.chunks_exact(found.k).zip(exact.index.chunks_exact(exact.k));
    let hits: usize = rows.map(|(a, b)| b.iter().filter(|&j| a.contains(j)).count()).sum();
    hits as f64 / exact.index.len() as f64
}

fn kmeans(args: &Args, backend: &dyn Backend, x: MatRef<'_>) -> Result<String, Failure> {
    let iters = args.number("iters", 10);
    let init = match args.text("start") {
        Ok(path) => Init::Given(read_npy(path)?.0),
        Err(_) => Init::KMeansPlusPlus,
    };
    let k = if let Init::Given(start) = &init { start.len() / x.dim() } else { args.number("k", 100) };
    let params = KMeansParams {
        init,
        max_iters: iters,
        tol: 0.0,
        restarts: args.number("restarts", 1),
        ..KMeansParams::new(k, 1)
    };
    let (wall, cpu, found) = time(args.number("reps", 3), || Ok(fit(backend, x, None, &params, &|_| true)?))?;
    Ok(format!(
        "\"k\":{k},\"iters\":{},\"median_s\":{wall:.4},\"cpu_s\":{cpu:.3},\"inertia\":{:.2}",
        found.iterations, found.inertia
    ))
}

fn neighbours(args: &Args, backend: &dyn Backend, x: MatRef<'_>, join: bool) -> Result<String, Failure> {
    let k = args.number("k", 10);
    let metric = if args.text("metric").is_ok_and(|m| m == "l2") { Metric::SqEuclidean } else { Metric::Dot };
    let (data, dim) = if join { (Vec::new(), x.dim()) } else { read_npy(args.text("queries")?)? };
    let queries = if join { x } else { MatRef::new(&data, dim)? };
    let skip = join.then_some(0);
    let (wall, cpu, _) = time(args.number("reps", 3), || Ok(backend.top_k(queries, x, k, metric, skip)?))?;
    let rate = 2.0 * queries.rows() as f64 * x.rows() as f64 * x.dim() as f64 / 1e9;
    Ok(format!(
        "\"k\":{k},\"queries\":{},\"median_s\":{wall:.4},\"cpu_s\":{cpu:.3},\"q_per_cpu_s\":{:.0},\"gflops\":{:.1},\"recall\":1.0",
        queries.rows(),
        queries.rows() as f64 / cpu,
        rate / wall
    ))
}

fn ivf(args: &Args, backend: &dyn Backend, x: MatRef<'_>) -> Result<String, Failure> {
    use curate_kernels::ivf::{Ivf, IvfParams};
    let (k, probes) = (args.number("k", 10), args.number("probes", 8));
    let params = IvfParams { cells: args.number("cells", 0), ..IvfParams::default() };
    let (build, build_cpu, index) = time(1, || Ok(Ivf::build(backend, x, &params, &|_| true)?))?;
    let reps = args.number("reps", 1);
    let (wall, cpu, found) =
        time(reps, || Ok(index.top_k(backend, x, x, k, Metric::Dot, probes, Some(0), &|_| true)?))?;
    let asked = x.slice(0..x.rows().min(2000));
    let exact = backend.top_k(asked, x, k, Metric::Dot, Some(0))?;
    let part = Neighbours { k, index: found.index[..exact.index.len()].to_vec(), value: Vec::new() };
    Ok(format!(
        "\"k\":{k},\"cells\":{},\"probes\":{probes},\"build_s\":{build:.3},\"build_cpu_s\":{build_cpu:.3},\"median_s\":{wall:.4},\"cpu_s\":{cpu:.3},\"recall\":{:.4}",
        index.cells(),
        recall(&part, &exact)
    ))
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some((workload, rest)) = words.split_first() else {
        println!("{{\"skipped\":\"name a workload: kmeans, knn, join or ivf\"}}");
        return Ok(());
    };
    let args = Args(rest.chunks_exact(2).map(|p| (p[0].trim_start_matches('-').to_owned(), p[1].clone())).collect());
    let threads = args.number("threads", 2);
    let (data, dim) = read_npy(args.text("data")?)?;
    let whole = MatRef::new(&data, dim)?;
    let x = whole.slice(0..args.number("n", whole.rows()).min(whole.rows()));
    let backend = curate_kernels::open(args.text("device").unwrap_or("cpu"))?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let result = pool.install(|| -> Result<String, String> {
        let backend = backend.as_ref();
        match workload.as_str() {
            "kmeans" => kmeans(&args, backend, x),
            "knn" => neighbours(&args, backend, x, false),
            "join" => neighbours(&args, backend, x, true),
            "ivf" => ivf(&args, backend, x),
            other => Err(format!("unknown workload {other}").into()),
        }
        .map_err(|e| e.to_string())
    })?;
    println!(
        "{{\"bench\":\"{workload}\",\"device\":\"{}\",\"n\":{},\"d\":{dim},\"threads\":{threads},{result}}}",
        backend.name(),
        x.rows()
    );
    Ok(())
}
