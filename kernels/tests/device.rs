//! What a device computes in its own way, against references in double precision.

use curate_kernels::nuclear::FrozenHead;
use curate_kernels::transport::{Costs, Dense, Entropic, Ground, Points, sinkhorn};
use curate_kernels::{MatRef, Metric};
use serde_json::Value;

use crate::nuclear::{check, hidden, logits, reference, wide};
use crate::transport::{all_close, cases, close, costs, floats, ground, narrow, points, uniform};
use crate::{Draw, devices, view, wide_dot};

#[test]
fn nuclear_norms_of_many_shapes_at_once() {
    let mut draw = Draw(3);
    let mut all = Vec::new();
    for (tokens, dim) in [(1, 7), (12, 40), (12, 40), (7, 1), (70, 700), (33, 2500), (65, 65)] {
        for (common, decay) in [(0.0, 1.0f32), (30.0, 0.97), (1e4, 0.8), (0.0, 0.4)] {
            all.push((hidden(&mut draw, (tokens, dim), common, |t| decay.powf(t as f32)), dim));
        }
    }
    let matrices: Vec<MatRef<'_>> = all.iter().map(|(x, dim)| view(x, *dim)).collect();
    for device in devices() {
        let norms = device.nuclear_norms(&matrices).unwrap();
        for ((x, dim), norm) in all.iter().zip(&norms) {
            check(*norm, reference(wide(x), *dim), 1e-6, &format!("{} {} x {dim}", device.name(), x.len() / dim));
        }
        let alone: Vec<f64> = matrices.iter().map(|x| device.nuclear_norms(&[*x]).unwrap()[0]).collect();
        assert_eq!(alone, norms, "{}: company changes nothing", device.name());
        let mut bad = all[4].0.clone();
        bad[41] = f32::NAN;
        let error = device.nuclear_norms(&[view(&bad, 40)]).unwrap_err();
        assert!(matches!(error, curate_kernels::KernelError::NotFinite { row: 1, .. }), "{error}");
        let zero = [0.0; 12];
        assert_eq!(device.nuclear_norms(&[view(&zero, 4), view(&zero[..0], 4)]).unwrap(), [0.0, 0.0]);
    }
}

#[test]
fn norms_behind_a_head_are_those_of_its_logits() {
    let mut draw = Draw(8);
    for (words, dim) in [(50, 24), (9, 40), (300, 70)] {
        let weights = hidden(&mut draw, (words, dim), 0.0, |_| 1.0);
        let head = FrozenHead::new(view(&weights, dim), &|_| true).unwrap();
        let texts: Vec<Vec<f32>> = [3, 1, 31, 32, 33, 70, 3, 0]
            .map(|tokens| hidden(&mut draw, (tokens, dim), 5.0, |t| 0.9f32.powf(t as f32)))
            .into();
        let states: Vec<MatRef<'_>> = texts.iter().map(|text| view(text, dim)).collect();
        for device in devices().into_iter().chain([curate_kernels::cpu()]) {
            let norms = device.head_norms(&head, &states).unwrap();
            for (text, norm) in texts.iter().zip(&norms) {
                let wanted = reference(logits(text, &weights, dim), words);
                check(*norm, wanted, 1e-6, &format!("{} {words} x {dim}, {}", device.name(), text.len() / dim));
            }
            let alone: Vec<f64> = states.iter().map(|x| device.head_norms(&head, &[*x]).unwrap()[0]).collect();
            assert_eq!(alone, norms, "{}: company changes nothing", device.name());
            let mut bad = texts[2].clone();
            bad[dim + 1] = f32::INFINITY;
            let error = device.head_norms(&head, &[states[0], view(&bad, dim)]).unwrap_err();
            assert!(matches!(error, curate_kernels::KernelError::NotFinite { row: 1, .. }), "{error}");
            let error = device.head_norms(&head, &[view(&texts[0][..6], 2)]).unwrap_err();
            assert!(matches!(error, curate_kernels::KernelError::Shape { .. }), "{error}");
        }
    }
}

#[test]
fn golden_norms_on_a_device() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/golden/uds/nuclear_norm.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for item in file["items"].as_array().unwrap().iter().filter(|item| item["rows"].is_null()) {
        let rows: Vec<Vec<f64>> = item["logits"].as_array().unwrap().iter().map(floats).collect();
        let logits = narrow(&rows);
        let expected = item["expected"]["nuclear_norm"].as_f64().unwrap();
        for device in devices() {
            let got = device.nuclear_norms(&[view(&logits, rows[0].len())]).unwrap()[0];
            assert!((got - expected).abs() <= 1e-6 * expected + 1e-9, "{}: {got} is not {expected}", item["name"]);
        }
    }
}

#[test]
fn entropic_plans_are_golden_on_a_device() {
    for case in cases("ot/small_clouds") {
        let (x, y, kind) = (points(&case["x"]), points(&case["y"]), case["cost_kind"].as_str().unwrap());
        let (a, b, cost) = (floats(&case["a"]), floats(&case["b"]), costs(kind, &x, &y));
        let (px, py, dim) = (narrow(&x), narrow(&y), x[0].len());
        let clouds = Points::new(view(&px, dim), view(&py, dim), ground(kind)).unwrap();
        for (told, device) in
            case["sinkhorn"].as_array().unwrap().iter().flat_map(|t| devices().into_iter().map(move |d| (t, d)))
        {
            let eps = told["eps"].as_f64().unwrap();
            let name = format!("{} eps {eps}", case["name"]);
            let dense = Dense::new(&cost, b.len()).unwrap();
            let tight = Entropic { tolerance: 1e-12, ..Entropic::new(eps) };
            let found = device.sinkhorn(&dense, &a, &b, &tight, &|_| true).unwrap();
            close(&name, found.cost, told["transport_cost"].as_f64().unwrap(), 1e-8);
            close(&name, found.dual, told["dual_value"].as_f64().unwrap(), 1e-8);
            all_close(&name, &found.f, &floats(&told["f"]), 1e-8);
            all_close(&name, &found.g, &floats(&told["g"]), 1e-8);
            // Points were rounded to f32.
            let found = device.sinkhorn(&clouds, &a, &b, &Entropic { tolerance: 1e-9, ..tight }, &|_| true).unwrap();
            close(&name, found.cost, told["transport_cost"].as_f64().unwrap(), 1e-5);
        }
    }
}

/// A device's half sweeps end where the processor's fused sweeps end, within the tolerance asked for.
#[test]
fn points_of_every_ground_on_a_device() {
    let (n, m, d) = (150, 70, 40);
    let mut draw = Draw(9);
    let (x, y) = (draw.clustered(n, d, 5, 0.5), draw.clustered(m, d, 5, 0.5));
    for (kind, eps) in [(Ground::SqEuclidean, 2.0), (Ground::Euclidean, 0.4), (Ground::Cosine, 0.1)] {
        let clouds = Points::new(view(&x, d), view(&y, d), kind).unwrap();
        let mut a = uniform(n);
        (a[3], a[4]) = (0.0, 2.0 / n as f64);
        for (tolerance, bound) in [(1e-4, 1e-3), (1e-10, 1e-8)] {
            let params = Entropic { tolerance, ..Entropic::new(eps) };
            let wanted = sinkhorn(&clouds, &a, &uniform(m), &params, &|_| true).unwrap();
            for device in devices() {
                let found = device.sinkhorn(&clouds, &a, &uniform(m), &params, &|_| true).unwrap();
                assert!(found.error <= 1.1 * tolerance.max(4e-7 * (1.0 + 100.0 / eps)), "{kind:?} {}", found.error);
                close(&format!("{kind:?} cost"), found.cost, wanted.cost, bound * wanted.cost);
                let scale = eps * 100.0 * bound;
                all_close(&format!("{kind:?} g"), &found.g, &wanted.g, scale);
            }
        }
        for device in devices() {
            let stopped = device.sinkhorn(&clouds, &a, &uniform(m), &Entropic::new(eps), &|_| false);
            assert!(matches!(stopped, Err(curate_kernels::KernelError::Stopped)));
            assert!(device.sinkhorn(&clouds, &uniform(m), &a, &Entropic::new(eps), &|_| true).is_err());
        }
        assert_eq!(clouds.rows(), n);
    }
}

#[test]
fn gains_are_those_of_the_definition() {
    let mut draw = Draw(21);
    for (n, count, d) in [(1, 1, 1), (300, 70, 33), (700, 5, 64), (3000, 3, 8)] {
        let (x, c) = (draw.clustered(n, d, 5, 0.5), draw.clustered(count, d, 5, 0.5));
        let best: Vec<f32> = (0..n).map(|_| draw.next() * d as f32 / 4.0).collect();
        let (x, c) = (view(&x, d), view(&c, d));
        for device in devices().into_iter().chain([curate_kernels::cpu()]) {
            let gains = device.coverage_gains(x, c, &best).unwrap();
            for (j, gain) in gains.iter().enumerate() {
                let term = |i: usize| (wide_dot(x.row(i), c.row(j)) - f64::from(best[i])).max(0.0);
                let wanted: f64 = (0..n).map(term).sum();
                // Each product is off by at most d roundings of |x| |c| <= 2.25 d, and one of the difference.
                let bound = n as f64 * (d + 4) as f64 * 2f64.powi(-24) * 4.0 * d as f64;
                assert!((gain - wanted).abs() <= bound, "{}: {gain} is not {wanted}", device.name());
            }
            assert!(device.coverage_gains(x, c, &best[1..]).is_err());
        }
    }
}

#[test]
fn neighbours_are_those_of_the_processor() {
    let mut draw = Draw(33);
    for (n, m, d, k) in [(40, 600, 16, 16), (130, 129, 40, 5), (3, 64, 130, 1), (140, 300, 24, 17)] {
        let (q, mut b) = (draw.clustered(n, d, 13, 0.3), draw.clustered(m, d, 13, 0.3));
        let copy = b[..20 * d].to_vec();
        b[m / 2 * d..][..20 * d].copy_from_slice(&copy);
        (q.len() > 5 * d).then(|| b[7 * d..8 * d].copy_from_slice(&q[5 * d..6 * d]));
        for metric in [Metric::Dot, Metric::SqEuclidean] {
            let (q, b) = (view(&q, d), view(&b, d));
            let wanted = curate_kernels::cpu().top_k(q, b, k, metric, Some(3)).unwrap();
            for device in devices() {
                let found = device.top_k(q, b, k, metric, Some(3)).unwrap();
                assert_eq!(found, wanted, "{} {n} {m} {d} {k} {metric:?}", device.name());
            }
        }
    }
    let same = [0.5f32; 200 * 16];
    let same = view(&same, 16);
    for device in devices() {
        let found = device.top_k(same.slice(0..3), same, 4, Metric::Dot, Some(0)).unwrap();
        assert_eq!(
            found.index,
            [1, 2, 3, 4, 0, 2, 3, 4, 0, 1, 3, 4],
            "{}: more are equal than can be told apart",
            device.name()
        );
    }
}

#[test]
fn betas_are_those_of_the_processor() {
    let shapes: Vec<[f64; 2]> = (0..6000)
        .map(|i| match i % 6 {
            0 => [1.0, 1.0],
            1 => [2.0, 5.0],
            2 => [17.5, 3.25],
            3 => [400.0, 1.0],
            4 => [0.3, 0.6],
            _ => [0.01, 2.0],
        })
        .collect();
    let rows: Vec<u64> = (0..6000u64).map(|i| i * i).collect();
    let wanted = curate_kernels::cpu().beta_draws(99, &rows, &shapes).unwrap();
    for device in devices() {
        let found = device.beta_draws(99, &rows, &shapes).unwrap();
        let (mut differ, mut beyond) = (0, 0);
        for ((found, wanted), shape) in found.iter().zip(&wanted).zip(&shapes) {
            differ += usize::from(shape[0] >= 1.0 && found != wanted);
            beyond += usize::from((found - wanted).abs() > 1e-12 * wanted.max(1e-300));
        }
        // A test that a last bit decides otherwise gives another draw: one in a billion.
        assert!(differ <= 1 && beyond <= 1, "{}: {differ} draws differ, {beyond} by more than rounding", device.name());
        let mean = found.iter().skip(1).step_by(6).sum::<f64>() / 1000.0;
        assert!((mean - 2.0 / 7.0).abs() < 0.02, "{mean}");
        assert!(device.beta_draws(1, &rows[..2], &[[0.0, 1.0], [1.0, 1.0]]).is_err());
        assert!(device.beta_draws(1, &rows[..2], &shapes[..1]).is_err());
    }
}
