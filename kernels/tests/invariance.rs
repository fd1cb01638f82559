//! Threads, chunks and the order of rows leave no trace.

use curate_kernels::kmeans::{KMeans, KMeansParams, fit};
use curate_kernels::{Backend, Cpu, Isa, Metric};

use crate::{Draw, view};

fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(run)
}

/// Enough rows, clusters and columns for the projected route (work above 1e9).
const LARGE: (usize, usize, usize) = (6000, 1500, 128);

fn data(shape: (usize, usize, usize)) -> Vec<f32> {
    Draw(17).clustered(shape.0, shape.2, 300, 0.3)
}

fn run(x: &[f32], shape: (usize, usize, usize), ids: Option<&[u64]>) -> KMeans {
    let params = KMeansParams { max_iters: 4, ..KMeansParams::new(shape.1, 3) };
    fit(&Cpu::new(), view(x, shape.2), ids, &params, &|_| true).unwrap()
}

#[test]
fn threads_do_not_matter() {
    for shape in [LARGE, (500, 20, 10)] {
        let x = data(shape);
        let one = on_threads(1, || run(&x, shape, None));
        for threads in [2, 4] {
            assert_eq!(on_threads(threads, || run(&x, shape, None)), one, "{threads} threads");
        }
        let search = || Cpu::new().top_k(view(&x, shape.2), view(&x, shape.2), 5, Metric::Dot, Some(0)).unwrap();
        let one = on_threads(1, search);
        assert_eq!(on_threads(2, search), one);
        assert_eq!(on_threads(4, search), one);
    }
}

#[test]
fn chunks_do_not_matter() {
    let (n, k, d) = LARGE;
    let (x, c) = (data(LARGE), Draw(18).clustered(k, d, 300, 0.05));
    let (x, c) = (view(&x, d), view(&c, d));
    let cpu = Cpu::new();
    let (mut labels, mut dist) = (vec![0; n], vec![0.0; n]);
    cpu.assign(x, c, &mut labels, &mut dist).unwrap();
    let near = cpu.top_k(x, c, 4, Metric::SqEuclidean, None).unwrap();
    for size in [1, 7, 48, 100, 1000, 2500] {
        let stop = n.min(40 * size);
        for start in (0..stop).step_by(size) {
            let range = start..(start + size).min(n);
            let (mut part, mut part_dist) = (vec![0; range.len()], vec![0.0; range.len()]);
            cpu.assign(x.slice(range.clone()), c, &mut part, &mut part_dist).unwrap();
            assert_eq!(part, labels[range.clone()], "chunks of {size}");
            assert_eq!(part_dist, dist[range.clone()], "chunks of {size}");
            let part = cpu.top_k(x.slice(range.clone()), c, 4, Metric::SqEuclidean, None).unwrap();
            assert_eq!(part.index, near.index[4 * range.start..4 * range.end], "chunks of {size}");
        }
    }
}

#[test]
fn instruction_sets_do_not_matter() {
    let shape = (2000, 60, 70);
    let x = data(shape);
    let x = view(&x, shape.2);
    let params = KMeansParams { max_iters: 5, restarts: 2, ..KMeansParams::new(shape.1, 3) };
    let all = Isa::all().into_iter().filter_map(Cpu::with_isa);
    let found: Vec<KMeans> = all.map(|cpu| fit(&cpu, x, None, &params, &|_| true).unwrap()).collect();
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn shuffled_rows_that_carry_their_ids_give_the_same_clusters() {
    for shape in [LARGE, (900, 30, 8), (60, 5, 3)] {
        let (n, d) = (shape.0, shape.2);
        let x = data(shape);
        let ids: Vec<u64> = (0..n as u64).map(|i| i * 7 + 100).collect();
        let order: Vec<usize> = (0..n).map(|i| (i * 7 + 3) % n).collect();
        let distinct: std::collections::BTreeSet<_> = order.iter().collect();
        assert_eq!(distinct.len(), n, "7 and n share no factor");
        let shuffled: Vec<f32> = order.iter().flat_map(|&i| x[i * d..(i + 1) * d].to_vec()).collect();
        let shuffled_ids: Vec<u64> = order.iter().map(|&i| ids[i]).collect();
        let (a, b) = (run(&x, shape, Some(&ids)), run(&shuffled, shape, Some(&shuffled_ids)));
        assert_eq!((&a.centroids, &a.sizes), (&b.centroids, &b.sizes));
        assert_eq!(a.inertia.to_bits(), b.inertia.to_bits());
        assert!(order.iter().enumerate().all(|(to, &from)| a.labels[from] == b.labels[to]));
    }
}

#[test]
fn a_sample_is_fitted_and_every_row_labelled_in_chunks() {
    let shape = (3000, 40, 16);
    let x = data(shape);
    let x = view(&x, shape.2);
    let found = fit(&Cpu::new(), x.slice(0..1000), None, &KMeansParams::new(shape.1, 3), &|_| true).unwrap();
    let c = view(&found.centroids, shape.2);
    let (mut labels, mut dist) = (vec![0; 3000], vec![0.0; 3000]);
    Cpu::new().assign(x, c, &mut labels, &mut dist).unwrap();
    assert_eq!(labels[..1000], found.labels);
    assert_eq!(dist[..1000], found.sq_dist);
}
