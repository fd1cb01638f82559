//! Every backend against f64.

use curate_kernels::kmeans::{Init, KMeansParams, fit};
use curate_kernels::{KernelError, Metric, SegmentSums};
use proptest::prelude::*;

use crate::{Draw, backends, bound, view, wide_dot, wide_sq_dist};

/// Shapes: (rows, centroids, columns), below and above every block, panel and lane boundary.
const SHAPES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (5, 3, 2),
    (70, 17, 3),
    (97, 16, 16),
    (200, 33, 17),
    (300, 65, 64),
    (311, 100, 100),
    (500, 2100, 20),
    (1500, 700, 130),
];

#[test]
fn assign_is_the_nearest_within_the_bound() {
    for (n, k, d) in SHAPES {
        let mut draw = Draw(n as u64);
        let (x, c) = (draw.clustered(n, d, 13, 0.2), draw.clustered(k, d, 13, 0.2));
        let (x, c) = (view(&x, d), view(&c, d));
        for backend in backends() {
            let (mut labels, mut dist) = (vec![0; n], vec![0.0; n]);
            backend.assign(x, c, &mut labels, &mut dist).unwrap();
            let mut own = vec![0.0; n];
            backend.own_sq_dist(x, c, &labels, &mut own).unwrap();
            for i in 0..n {
                let best = (0..k).map(|j| wide_sq_dist(x.row(i), c.row(j))).fold(f64::INFINITY, f64::min);
                let got = wide_sq_dist(x.row(i), c.row(labels[i] as usize));
                let name = backend.name();
                assert!(got <= best * (1.0 + 3.0 * bound(d)), "{name} {n} {k} {d} row {i}: {got} > {best}");
                assert!((f64::from(dist[i]) - got).abs() <= got * bound(d), "{name} distance of row {i}");
                assert_eq!(own[i].to_bits(), dist[i].to_bits(), "{name} both distances of row {i}");
            }
        }
    }
}

#[test]
fn top_k_holds_the_nearest_within_the_bound() {
    for (n, m, d) in SHAPES {
        let mut draw = Draw(7 * n as u64);
        let (q, b) = (draw.clustered(n.min(120), d, 13, 0.3), draw.clustered(m, d, 13, 0.3));
        let (q, b) = (view(&q, d), view(&b, d));
        for (backend, metric) in backends().iter().flat_map(|b| [(b, Metric::Dot), (b, Metric::SqEuclidean)]) {
            let k = 6;
            let near = backend.top_k(q, b, k, metric, Some(2)).unwrap();
            for i in 0..q.rows() {
                let mut all: Vec<f64> = (0..m)
                    .filter(|&j| j != i + 2)
                    .map(|j| match metric {
                        Metric::Dot => -wide_dot(q.row(i), b.row(j)),
                        Metric::SqEuclidean => wide_sq_dist(q.row(i), b.row(j)),
                    })
                    .collect();
                all.sort_by(f64::total_cmp);
                let scale = (wide_dot(q.row(i), q.row(i)).sqrt() + 4.0 * (d as f64).sqrt()).powi(2);
                for slot in 0..k {
                    let (index, value) = (near.index[i * k + slot], f64::from(near.value[i * k + slot]));
                    let name = format!("{} {metric:?} {n} {m} {d} query {i}", backend.name());
                    let Some(&wanted) = all.get(slot) else {
                        assert_eq!(index, u32::MAX, "{name}");
                        continue;
                    };
                    assert_ne!(index as usize, i + 2, "{name}: itself");
                    let value = if metric == Metric::Dot { -value } else { value };
                    assert!((value - wanted).abs() <= 2.0 * bound(d) * scale, "{name}: {value} is not {wanted}");
                }
            }
        }
    }
}

#[test]
fn sums_norms_and_farthest_first() {
    let (n, d) = (333, 37);
    let data = Draw(3).clustered(n, d, 5, 0.5);
    let x = view(&data, d);
    let labels: Vec<u32> = (0..n as u32).map(|i| i * i % 4).collect();
    let mut kept: Option<SegmentSums> = None;
    for backend in backends() {
        for (i, norm) in backend.row_sq_norms(x).into_iter().enumerate() {
            let wide = wide_dot(x.row(i), x.row(i));
            assert!((f64::from(norm) - wide).abs() <= bound(d) * wide, "{} norm {i}", backend.name());
        }
        let mut dist = vec![f32::MAX; n];
        backend.min_sq_dist_update(x, x.row(5), &mut dist).unwrap();
        backend.min_sq_dist_update(x, x.row(9), &mut dist).unwrap();
        for (i, &got) in dist.iter().enumerate() {
            let wide = wide_sq_dist(x.row(i), x.row(5)).min(wide_sq_dist(x.row(i), x.row(9)));
            assert!((f64::from(got) - wide).abs() <= bound(d) * wide, "{} distance {i}", backend.name());
        }
        let mut sums = SegmentSums::new(4, d, 2.0, n as u64);
        backend.segment_sums(x, &labels, &mut sums).unwrap();
        let mut mean = vec![0.0; d];
        sums.mean_into(1, &mut mean);
        let members: Vec<usize> = (0..n).filter(|&i| labels[i] == 1).collect();
        for t in 0..d {
            let wide = members.iter().map(|&i| f64::from(x.row(i)[t])).sum::<f64>() / members.len() as f64;
            assert!((f64::from(mean[t]) - wide).abs() < 1e-6, "{}", backend.name());
        }
        assert_eq!(kept.get_or_insert_with(|| sums.clone()), &sums, "{}: integer sums are equal", backend.name());
    }
}

#[test]
fn ties_and_equal_rows_go_to_the_lowest_index() {
    let data = [0.5f32, -0.25].repeat(700);
    let x = view(&data, 2);
    for backend in backends() {
        let (mut labels, mut dist) = (vec![9; 700], vec![9.0; 700]);
        backend.assign(x, x.slice(0..60), &mut labels, &mut dist).unwrap();
        assert!(labels.iter().all(|&l| l == 0) && dist.iter().all(|&v| v == 0.0), "{}", backend.name());
        let near = backend.top_k(x.slice(0..40), x, 3, Metric::SqEuclidean, Some(0)).unwrap();
        assert_eq!(&near.index[..9], &[1, 2, 3, 0, 2, 3, 0, 1, 3], "{}", backend.name());
        let found = fit(backend.as_ref(), x, None, &KMeansParams::new(3, 1), &|_| true).unwrap();
        assert_eq!(found.inertia, 0.0);
        assert_eq!(found.sizes, [700, 0, 0], "{}", backend.name());
    }
}

#[test]
fn as_many_clusters_as_rows_and_one_cluster() {
    let data = Draw(5).clustered(40, 3, 7, 0.5);
    let x = view(&data, 3);
    for backend in backends() {
        let all = fit(backend.as_ref(), x, None, &KMeansParams::new(40, 1), &|_| true).unwrap();
        assert_eq!((all.inertia, all.sizes), (0.0, vec![1; 40]), "{}", backend.name());
        let one = fit(backend.as_ref(), x, None, &KMeansParams::new(1, 1), &|_| true).unwrap();
        let spread: f64 = (0..40).map(|i| wide_sq_dist(x.row(i), &one.centroids)).sum();
        assert!((one.inertia - spread).abs() < 1e-5 * spread, "{}", backend.name());
    }
}

#[test]
fn wrong_input_is_a_typed_error() {
    let (good, empty) = (vec![1.0f32; 600 * 4], Vec::new());
    for backend in backends() {
        let name = backend.name();
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut bad = good.clone();
            bad[4 * 123 + 2] = poison;
            let (x, b) = (view(&good, 4), view(&bad, 4));
            let (mut labels, mut dist) = (vec![0; 600], vec![0.0; 600]);
            let error = backend.assign(b, x.slice(0..9), &mut labels, &mut dist).unwrap_err();
            assert!(matches!(error, KernelError::NotFinite { row: 123, .. }), "{name} {poison}: {error}");
            let error = backend.assign(x, b.slice(100..150), &mut labels, &mut dist).unwrap_err();
            assert!(matches!(error, KernelError::NotFinite { row: 23, .. }), "{name} {poison}: {error}");
            for (q, base) in [(b, x), (x, b)] {
                let error = backend.top_k(q, base, 2, Metric::Dot, None).unwrap_err();
                assert!(matches!(error, KernelError::NotFinite { row: 123, .. }), "{name} {poison}: {error}");
            }
            let error = fit(backend.as_ref(), b, None, &KMeansParams::new(3, 1), &|_| true).unwrap_err();
            assert!(matches!(error, KernelError::NotFinite { row: 123, .. }), "{name} {poison}: {error}");
            let error = backend.min_sq_dist_update(b, &[0.0; 4], &mut dist).unwrap_err();
            assert!(matches!(error, KernelError::NotFinite { row: 123, .. }), "{name} {poison}: {error}");
        }
        let (x, none) = (view(&good, 4), view(&empty, 4));
        assert!(matches!(
            backend.assign(x, none, &mut vec![0; 600], &mut vec![0.0; 600]),
            Err(KernelError::Shape { .. })
        ));
        assert!(matches!(backend.assign(x, x, &mut [0], &mut [0.0]), Err(KernelError::Shape { .. })));
        assert!(matches!(backend.top_k(x, view(&good, 3), 1, Metric::Dot, None), Err(KernelError::Shape { .. })));
        assert!(backend.assign(none, x, &mut [], &mut []).is_ok(), "{name}: no rows is no error");
        assert!(backend.top_k(none, x, 2, Metric::Dot, None).unwrap().index.is_empty());
        assert_eq!(backend.top_k(x.slice(0..2), none, 2, Metric::Dot, None).unwrap().index, [u32::MAX; 4]);
        assert!(backend.top_k(x.slice(0..2), x, 0, Metric::Dot, None).unwrap().index.is_empty());
        let wrong = KMeansParams { init: Init::Given(vec![0.0; 3]), ..KMeansParams::new(2, 1) };
        for params in [KMeansParams::new(601, 1), KMeansParams::new(0, 1), wrong] {
            let error = fit(backend.as_ref(), x, None, &params, &|_| true).unwrap_err();
            assert!(matches!(error, KernelError::Shape { .. }), "{name}: {error}");
        }
        let error = fit(backend.as_ref(), none, None, &KMeansParams::new(1, 1), &|_| true).unwrap_err();
        assert!(matches!(error, KernelError::Shape { .. }), "{name}: {error}");
    }
}

#[test]
fn magnitudes_far_from_one() {
    let mut draw = Draw(11);
    for (scale, offset) in [(1e-20f32, 0.0f32), (1e-12, 0.0), (1e12, 0.0), (1e17, 0.0), (1.0, 1e4)] {
        let rows = draw.clustered(400, 24, 9, 0.2).into_iter().map(|v| v * scale + offset).collect::<Vec<_>>();
        let x = view(&rows, 24);
        let mut kept = None;
        for isa in backends().iter().filter(|b| b.name().starts_with("cpu")) {
            let (mut labels, mut dist) = (vec![0; 400], vec![0.0; 400]);
            isa.assign(x, x.slice(0..50), &mut labels, &mut dist).unwrap();
            assert_eq!(&labels[..50], &(0..50).collect::<Vec<u32>>(), "{} {scale}", isa.name());
            let near = isa.top_k(x, x, 3, Metric::SqEuclidean, Some(0)).unwrap();
            assert_eq!(kept.get_or_insert_with(|| (labels.clone(), near.clone())), &(labels, near), "{scale}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The pruned route and comparing every pair give the same labels and lists, bit for bit.
    #[test]
    fn pruning_changes_nothing(seed in 0u64..1_000_000, n in 1usize..400, k in 1usize..200, d in 1usize..150, noise in 0.0f32..1.0) {
        let mut draw = Draw(seed);
        let (x, c) = (draw.clustered(n, d, 11, noise), draw.clustered(k, d, 11, noise * 0.3));
        let (x, c) = (view(&x, d), view(&c, d));
        let cpu = curate_kernels::cpu();
        let (mut labels, mut dist) = (vec![0; n], vec![0.0; n]);
        cpu.assign(x, c, &mut labels, &mut dist).unwrap();
        let near = cpu.top_k(x, c, 5, Metric::SqEuclidean, None).unwrap();
        let mut every = vec![f32::MAX; n];
        let mut wanted = vec![0u32; n];
        for j in 0..k {
            let before = every.clone();
            cpu.min_sq_dist_update(x, c.row(j), &mut every).unwrap();
            (0..n).filter(|&i| every[i] < before[i]).for_each(|i| wanted[i] = j as u32);
        }
        prop_assert_eq!(&labels, &wanted);
        prop_assert_eq!(&dist, &every);
        prop_assert_eq!(&near.index.iter().step_by(5).copied().collect::<Vec<_>>(), &wanted);
        prop_assert_eq!(&near.value.iter().step_by(5).copied().collect::<Vec<_>>(), &every);
    }
}
