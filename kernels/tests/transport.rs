//! Transport: golden vectors, proofs of optimality, edges, and the same bits for any number of threads.

use crate::Draw;
use curate_kernels::MatRef;
use curate_kernels::transport::{Costs, Dense, Entropic, Exact, Ground, Points, Simplex, exact, sinkhorn};
use proptest::prelude::*;
use serde_json::Value;

pub(crate) fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../datasets/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub(crate) fn points(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

fn distance(kind: &str, x: &[f64], y: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let sq: f64 = x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum();
    match kind {
        "sqeuclidean" => sq,
        "euclidean" => sq.sqrt(),
        "cosine" => 1.0 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt(),
        other => panic!("{other}"),
    }
}

pub(crate) fn ground(kind: &str) -> Ground {
    match kind {
        "sqeuclidean" => Ground::SqEuclidean,
        "euclidean" => Ground::Euclidean,
        _ => Ground::Cosine,
    }
}

pub(crate) fn costs(kind: &str, x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<f64> {
    x.iter().flat_map(|x| y.iter().map(move |y| distance(kind, x, y))).collect()
}

pub(crate) fn narrow(points: &[Vec<f64>]) -> Vec<f32> {
    points.iter().flatten().map(|&v| v as f32).collect()
}

fn solve(cost: &[f64], a: &[f64], b: &[f64]) -> Exact {
    let found = exact(&Dense::new(cost, b.len()).unwrap(), a, b, &|_| true).unwrap();
    let top = cost.iter().fold(1.0f64, |top, c| top.max(c.abs()));
    let dot = |w: &[f64], p: &[f64]| w.iter().zip(p).map(|(w, p)| w * p).sum::<f64>();
    let total: f64 = a.iter().sum();
    let m = b.len();
    let gap = |at: usize| cost[at] - found.u[at / m] - found.v[at % m];
    let least = (0..cost.len()).map(gap).fold(f64::INFINITY, f64::min);
    assert_eq!(found.slack.to_bits(), least.to_bits(), "the slack is the least gap");
    assert!(found.slack >= -1e-11 * top, "a potential is too large by {}", -found.slack);
    let dual = dot(a, &found.u) + dot(b, &found.v);
    assert!((dual - found.cost).abs() <= 1e-10 * top * total, "{dual} is not {}", found.cost);
    let (mut left_a, mut left_b) = (a.to_vec(), b.to_vec());
    for &(i, j, mass) in &found.flows {
        assert!(mass > 0.0);
        left_a[i] -= mass;
        left_b[j] -= mass;
    }
    assert!(left_a.iter().chain(&left_b).all(|left| left.abs() <= 1e-12 * total), "the margins are met");
    found
}

pub(crate) fn close(what: &str, found: f64, expected: f64, bound: f64) {
    assert!((found - expected).abs() <= bound, "{what}: {found} is not {expected}");
}

pub(crate) fn all_close(what: &str, found: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    found.iter().zip(expected).for_each(|(f, e)| close(what, *f, *e, bound));
}

pub(crate) fn uniform(n: usize) -> Vec<f64> {
    vec![1.0 / n as f64; n]
}

#[test]
fn exact_costs_and_potentials_are_golden() {
    for case in cases("ot/small_clouds").into_iter().chain(cases("ot/medium_clouds")) {
        let name = case["name"].as_str().unwrap();
        let (x, y, kind) = (points(&case["x"]), points(&case["y"]), case["cost_kind"].as_str().unwrap());
        let (a, b, told) = (floats(&case["a"]), floats(&case["b"]), &case["exact"]);
        let found = solve(&costs(kind, &x, &y), &a, &b);
        close(name, found.cost, told["cost"].as_f64().unwrap(), 1e-9);
        if told["dual_unique"].as_bool().unwrap() {
            all_close(name, &found.u, &floats(&told["u"]), 1e-9);
            all_close(name, &found.v, &floats(&told["v"]), 1e-9);
        }
        let (x, y, dim) = (narrow(&x), narrow(&y), x[0].len());
        let clouds = Points::new(MatRef::new(&x, dim).unwrap(), MatRef::new(&y, dim).unwrap(), ground(kind)).unwrap();
        let found = exact(&clouds, &a, &b, &|_| true).unwrap();
        close(name, found.cost, told["cost"].as_f64().unwrap(), 1e-6);
    }
}

#[test]
fn entropic_plans_are_golden() {
    for case in cases("ot/small_clouds").into_iter().chain(cases("ot/medium_clouds")) {
        let (x, y, kind) = (points(&case["x"]), points(&case["y"]), case["cost_kind"].as_str().unwrap());
        let (a, b, cost) = (floats(&case["a"]), floats(&case["b"]), costs(kind, &x, &y));
        for told in case["sinkhorn"].as_array().unwrap() {
            let eps = told["eps"].as_f64().unwrap();
            let name = format!("{} eps {eps}", case["name"]);
            let dense = Dense::new(&cost, b.len()).unwrap();
            let tight = Entropic { tolerance: 1e-12, ..Entropic::new(eps) };
            let found = sinkhorn(&dense, &a, &b, &tight, &|_| true).unwrap();
            close(&name, found.cost, told["transport_cost"].as_f64().unwrap(), 1e-8);
            close(&name, found.dual, told["dual_value"].as_f64().unwrap(), 1e-8);
            all_close(&name, &found.f, &floats(&told["f"]), 1e-8);
            all_close(&name, &found.g, &floats(&told["g"]), 1e-8);
            let loose = sinkhorn(&dense, &a, &b, &Entropic::new(eps), &|_| true).unwrap();
            close(&name, loose.cost, found.cost, 1e-5 * found.cost);
        }
    }
}

/// The plain recursion in double precision: its fixed point is ours within the error of the margins, `eps error / min b`.
#[test]
fn single_precision_stays_within_its_bound() {
    let (n, m, eps) = (70, 50, 0.2);
    let mut draw = Draw(5);
    let cost: Vec<f64> = (0..n * m).map(|_| f64::from(draw.next()).abs()).collect();
    let mut g = vec![0.0; m];
    let soft = |terms: Vec<f64>| -eps * (terms.iter().map(|t: &f64| t.exp()).sum::<f64>()).ln();
    let mut f = vec![0.0; n];
    for _ in 0..3000 {
        for i in 0..n {
            f[i] = soft((0..m).map(|j| (g[j] - cost[i * m + j]) / eps - (m as f64).ln()).collect());
        }
        for j in 0..m {
            g[j] = soft((0..n).map(|i| (f[i] - cost[i * m + j]) / eps - (n as f64).ln()).collect());
        }
    }
    let dense = Dense::new(&cost, m).unwrap();
    for tolerance in [1e-3, 1e-5, 1e-11] {
        let params = Entropic { tolerance, ..Entropic::new(eps) };
        let found = sinkhorn(&dense, &uniform(n), &uniform(m), &params, &|_| true).unwrap();
        let shift = found.f[0] - f[0];
        let bound = 4.0 * eps * tolerance.max(4e-7 * (1.0 + 1.0 / eps)) * m as f64;
        let bound = if tolerance < 1e-6 { 1e-9 } else { bound };
        for i in 0..n {
            close("f", found.f[i] - shift, f[i], bound);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_exact_plan_proves_itself(n in 1usize..40, m in 1usize..40, seed in any::<u64>(), levels in 1i32..9) {
        let mut draw = Draw(seed);
        let some = |draw: &mut Draw| f64::from((draw.next() * levels as f32).round()).abs();
        let cost: Vec<f64> = (0..n * m).map(|_| some(&mut draw)).collect();
        solve(&cost, &uniform(n), &uniform(m));
        let mut weights = |len| { let mut w: Vec<f64> = (0..len).map(|_| some(&mut draw)).collect(); w[0] += 1.0; w };
        let (a, b) = (weights(n), weights(m));
        let scale = a.iter().sum::<f64>() / b.iter().sum::<f64>();
        solve(&cost, &a, &b.iter().map(|b| b * scale).collect::<Vec<_>>());
    }
}

#[test]
fn a_replaced_row_is_as_if_it_had_always_been_there() {
    let (n, m) = (20, 113);
    let mut draw = Draw(11);
    let mut cost: Vec<f64> = (0..n * m).map(|_| f64::from(draw.next())).collect();
    let mut simplex = Simplex::uniform(cost.clone(), m).unwrap();
    simplex.solve(&|_| true).unwrap();
    let (before, basis, kept) = (simplex.value(), simplex.basis(), cost.clone());
    for row in [3, 19, 0, 7] {
        let new: Vec<f64> = (0..m).map(|_| f64::from(draw.next())).collect();
        cost[row * m..(row + 1) * m].copy_from_slice(&new);
        simplex.replace_row(row, &new).unwrap();
        simplex.solve(&|_| true).unwrap();
        close("value", simplex.value(), solve(&cost, &uniform(n), &uniform(m)).cost, 1e-12);
    }
    for row in [3, 19, 0, 7] {
        simplex.replace_row(row, &kept[row * m..(row + 1) * m]).unwrap();
    }
    simplex.restore(&basis);
    simplex.solve(&|_| true).unwrap();
    assert_eq!(simplex.value().to_bits(), before.to_bits());
    assert!(simplex.replace_row(n, &cost[..m]).is_err() && simplex.replace_row(0, &[1.0]).is_err());
}

#[test]
fn edges() {
    assert_eq!(solve(&[2.5], &[1.0], &[1.0]).cost, 2.5);
    assert_eq!(solve(&[0.0; 12], &uniform(3), &uniform(4)).cost, 0.0);
    close("one target", solve(&[1.0, 2.0, 6.0], &uniform(3), &[1.0]).cost, 3.0, 1e-15);
    let identity: Vec<f64> = (0..400).map(|at| f64::from(at % 21 != 0)).collect();
    assert_eq!(solve(&identity, &uniform(20), &uniform(20)).cost, 0.0);
    let gap = solve(&[5.0, 1.0, 3.0, 2.0, 9.0, 4.0], &[0.5, 0.5], &[0.0, 0.25, 0.75]);
    close("a column without mass", gap.cost, 0.25 + 0.25 * 3.0 + 0.5 * 4.0, 1e-15);
    let gap = solve(&[5.0, 1.0, 3.0, 2.0, 9.0, 4.0], &[0.0, 0.5, 0.5], &[0.25, 0.75]);
    close("a row without mass", gap.cost, 0.25 * 3.0 + 0.25 * 2.0 + 0.5 * 4.0, 1e-15);
    for (a, b) in [(vec![1.0], vec![0.5, 0.4]), (vec![-1.0], vec![-0.5, -0.5]), (vec![0.0], vec![0.0, 0.0])] {
        assert!(exact(&Dense::new(&[1.0, 1.0], 2).unwrap(), &a, &b, &|_| true).is_err());
    }
    assert!(Dense::new(&[1.0, f64::NAN], 2).is_err() && Dense::new(&[], 2).is_err() && Dense::new(&[1.0], 0).is_err());
    let dense = Dense::new(&[1.0, 1.0], 2).unwrap();
    assert!(sinkhorn(&dense, &[1.0], &uniform(2), &Entropic::new(0.0), &|_| true).is_err());
    assert!(sinkhorn(&dense, &[1.0], &[1.0, 0.0], &Entropic::new(0.1), &|_| true).is_err());
    assert!(sinkhorn(&dense, &[1.0], &uniform(2), &Entropic::new(0.1), &|_| false).is_err());
    assert!(exact(&dense, &[1.0], &uniform(2), &|_| false).is_err());
}

/// An eps so small that plain scaling would underflow, points a thousand away from the origin, more rows than a block.
#[test]
fn far_points_and_a_small_eps_are_no_trouble() {
    let (n, m, d) = (300, 40, 3);
    let mut draw = Draw(3);
    let x: Vec<f32> = (0..n * d).map(|_| 1000.0 + draw.next()).collect();
    let y: Vec<f32> = (0..m * d).map(|_| 1000.0 + draw.next()).collect();
    let clouds = Points::new(MatRef::new(&x, d).unwrap(), MatRef::new(&y, d).unwrap(), Ground::SqEuclidean).unwrap();
    let (mut tile, mut row) = (vec![0.0; n * m], vec![0.0; m]);
    clouds.tile(0..n, &mut tile);
    for i in 0..n {
        clouds.row(i, &mut row);
        (0..m).for_each(|j| close("cost", f64::from(tile[i * m + j]), row[j], 2e-5));
    }
    let params = Entropic { tolerance: 1e-5, ..Entropic::new(0.003) };
    let found = sinkhorn(&clouds, &uniform(n), &uniform(m), &params, &|_| true).unwrap();
    let least = exact(&clouds, &uniform(n), &uniform(m), &|_| true).unwrap().cost;
    assert!(
        found.error < 1.1e-5 && found.cost >= least && found.cost < least + 0.003 * 6.0,
        "{} {} {} {least}",
        found.error,
        found.sweeps,
        found.cost
    );
}

#[test]
fn threads_do_not_change_a_bit() {
    let (n, m, d) = (700, 90, 24);
    let mut draw = Draw(9);
    let (x, y) = (draw.clustered(n, d, 5, 0.5), draw.clustered(m, d, 5, 0.5));
    let run = |threads: usize, hold_bytes: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
            let clouds = Points::new(MatRef::new(&x, d).unwrap(), MatRef::new(&y, d).unwrap(), Ground::Cosine).unwrap();
            let params = Entropic { tolerance: 1e-9, hold_bytes, ..Entropic::new(0.05) };
            sinkhorn(&clouds, &uniform(n), &uniform(m), &params, &|_| true).unwrap()
        })
    };
    let one = run(1, 1 << 30);
    assert!(one.error < 1e-8, "{}", one.error);
    for (threads, hold) in [(2, 1 << 30), (4, 0), (1, 0), (3, n * m * 4), (2, n * m * 2)] {
        assert_eq!(run(threads, hold), one, "{threads} threads, {hold} bytes held");
    }
}

#[test]
fn many_rows_begin_with_some_of_them() {
    let (n, m, d) = (33_000, 7, 3);
    let mut draw = Draw(11);
    let (x, y) = (draw.clustered(n, d, 4, 0.5), draw.clustered(m, d, 4, 0.5));
    let clouds = Points::new(MatRef::new(&x, d).unwrap(), MatRef::new(&y, d).unwrap(), Ground::SqEuclidean).unwrap();
    let solve = |tolerance: f64, a: &[f64]| {
        let params = Entropic { tolerance, ..Entropic::new(0.2) };
        sinkhorn(&clouds, a, &uniform(m), &params, &|_| true).unwrap()
    };
    let (rough, fine) = (solve(1e-4, &uniform(n)), solve(1e-9, &uniform(n)));
    assert!(rough.error < 1e-4 && fine.error < 1e-9, "{} {}", rough.error, fine.error);
    rough.f.iter().zip(&fine.f).for_each(|(rough, fine)| close("potential", *rough, *fine, 1e-3));
    // all mass on rows that the pilot does not see
    let few: Vec<f64> = (0..n).map(|i| if i % 4 == 1 { 4.0 / n as f64 } else { 0.0 }).collect();
    assert!(solve(1e-6, &few).error < 1e-6);
}
