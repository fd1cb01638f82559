//! Methods on pools whose truth is known because we planted it.

use super::pools::{DIM, Row, lazy, pool};
use curate_core::{Ctx, Selection, Selector, find};
use curate_selectors::SELECTORS;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Sizes of the planted clusters, very unequal; the last is three lonely rows.
const SIZES: [usize; 8] = [900, 500, 300, 150, 80, 40, 27, 3];

/// Tight clusters far apart, in mixed order; the column `cluster` names the truth; quality rises with the id.
fn planted() -> Vec<Row> {
    let stream = Ctx::new(99).stream("planted");
    let mut rows = Vec::new();
    for (cluster, &size) in SIZES.iter().enumerate() {
        for i in 0..size {
            let mut rng = stream((cluster * 10_000 + i) as u64);
            let vector = (0..DIM).map(|t| if t == cluster { 10.0 } else { 0.0 } + rng.uniform() as f32 - 0.5).collect();
            rows.push(Row {
                id: rng.bits() >> 1,
                vector,
                quality: 0.0,
                chars: 10,
                tokens: 3,
                cluster: cluster as u32,
                numbers: [0.0; 5],
            });
        }
    }
    rows.sort_by_key(|row| row.id);
    let n = rows.len() as f32;
    rows.iter_mut().enumerate().for_each(|(i, row)| row.quality = 4.0 * i as f32 / n);
    rows
}

fn method(name: &str, params: &Value) -> Box<dyn Selector> {
    find(SELECTORS, name, "method").unwrap().build(params.as_object().unwrap_or(&Map::new())).unwrap()
}

fn choose(method: &dyn Selector, rows: &[Row], budget: usize) -> Selection {
    method.select(&lazy(rows, 6), curate_core::Budget::Rows(budget), &Ctx::new(17)).unwrap()
}

/// Picks of every planted cluster.
fn tally(rows: &[Row], selection: &[u64]) -> BTreeMap<u32, usize> {
    let truth: BTreeMap<u64, u32> = rows.iter().map(|r| (r.id, r.cluster)).collect();
    let mut tally = BTreeMap::new();
    for row in selection {
        *tally.entry(truth[row]).or_insert(0) += 1;
    }
    tally
}

#[test]
fn kmq_finds_the_planted_clusters_and_shares_the_budget_out() {
    let rows = planted();
    let proportional = choose(method("kmeans-quality", &json!({"k": 8})).as_ref(), &rows, 200);
    assert_eq!(
        tally(&rows, &proportional.rows()),
        BTreeMap::from([(0, 90), (1, 50), (2, 30), (3, 15), (4, 8), (5, 4), (6, 3)])
    );
    let uniform = choose(method("kmeans-quality", &json!({"k": 8, "budgets": "uniform"})).as_ref(), &rows, 200);
    let each = tally(&rows, &uniform.rows());
    assert!(each.len() == 8 && each[&7] == 3 && each[&6] >= 27, "every cluster is represented: {each:?}");
    let report = &proportional.report;
    assert_eq!((report["k"].as_u64(), report["quality"].as_str()), (Some(8), Some("score.quality")));
    assert!(report["silhouette_simplified"].as_f64().unwrap() > 0.85 && report["inertia"].as_f64().unwrap() < 1500.0);
    assert!(report.get("warnings").is_none());
}

#[test]
fn kmq_fitted_on_a_sample_finds_the_same_clusters() {
    let rows = planted();
    let whole = choose(method("kmeans-quality", &json!({"k": 5})).as_ref(), &rows, 100);
    let sample = choose(method("kmeans-quality", &json!({"k": 5, "fit_rows": 600})).as_ref(), &rows, 100);
    let (a, b) = (tally(&rows, &whole.rows()), tally(&rows, &sample.rows()));
    assert!((0..4).all(|c| a[&c].abs_diff(b[&c]) <= 1), "{a:?} {b:?}");
}

#[test]
fn kmq_prefers_quality_inside_a_cluster() {
    let rows = planted();
    let mean = |params: Value| {
        let chosen = choose(method("kmeans-quality", &params).as_ref(), &rows, 200).rows();
        let of: BTreeMap<u64, f32> = rows.iter().map(|r| (r.id, r.quality)).collect();
        chosen.iter().map(|row| of[row]).sum::<f32>() / 200.0
    };
    let (plain, soft) = (mean(json!({"k": 8, "draw": "random"})), mean(json!({"k": 8})));
    let (cold, best) = (mean(json!({"k": 8, "temperature": 0.1})), mean(json!({"k": 8, "draw": "greedy"})));
    assert!(plain + 0.5 < soft && soft < cold && cold < best, "{plain} {soft} {cold} {best}");
}

#[test]
fn the_beginning_of_a_kmq_list_is_as_mixed_as_the_whole() {
    let rows = planted();
    let chosen = choose(method("kmeans-quality", &json!({"k": 8})).as_ref(), &rows, 200).rows();
    let start = tally(&rows, &chosen[..20]);
    assert!((start[&0] as i64 - 9).abs() <= 1 && (start[&1] as i64 - 5).abs() <= 1 && start.len() >= 5, "{start:?}");
}

#[test]
fn more_clusters_than_places_is_said() {
    let chosen = choose(method("kmeans-quality", &json!({"k": 50})).as_ref(), &planted(), 10);
    assert!(chosen.report["warnings"][0].as_str().unwrap().contains("lower k"));
}

#[test]
fn clusters_of_a_column_are_taken_as_they_are() {
    let rows = planted();
    let chosen = choose(method("kmeans-quality", &json!({"clusters": "column"})).as_ref(), &rows, 200);
    let sizes: Vec<u64> = chosen.groups.iter().map(|g| g.size_rows).collect();
    assert_eq!(sizes, SIZES.map(|size| size as u64));
}

#[test]
fn k_center_and_facility_location_reach_every_cluster() {
    let rows = planted();
    for (name, params) in [("k-center", json!({})), ("facility-location", json!({"neighbours": 64}))] {
        let chosen = choose(method(name, &params).as_ref(), &rows, 60);
        let reached = tally(&rows, &chosen.rows()).len();
        assert!(reached >= 7, "{name}: {reached}");
    }
    let first = choose(method("k-center", &json!({})).as_ref(), &rows, 8);
    assert_eq!(tally(&rows, &first.rows()).len(), 8, "farthest first needs no more rows than clusters");
}

#[test]
fn k_center_scores_fall_and_end_at_the_covering_radius() {
    let rows = planted();
    let chosen = choose(method("k-center", &json!({})).as_ref(), &rows, 30);
    let scores: Vec<f32> = chosen.picks.iter().map(|p| p.score).collect();
    assert!(scores.windows(2).all(|w| w[0] >= w[1]), "{scores:?}");
    let radius = chosen.report["covering_radius"].as_f64().unwrap() as f32;
    assert!(radius <= scores[29]);
    let told = chosen.assessment.unwrap();
    let farthest = (0..told.row.len()).filter(|&i| told.place[i] == 0).map(|i| told.score[i]).fold(0.0, f32::max);
    assert_eq!(farthest.to_bits(), radius.to_bits());
}

#[test]
fn lengths_are_matched() {
    let mut rows = planted();
    rows.iter_mut().enumerate().for_each(|(i, row)| row.chars = (i * i % 3001) as u32);
    let chosen = choose(method("length-matched-random", &json!({"bins": 20})).as_ref(), &rows, 200).rows();
    let mean = |keep: &dyn Fn(&Row) -> bool| {
        let lengths: Vec<f64> = rows.iter().filter(|r| keep(r)).map(|r| f64::from(r.chars)).collect();
        lengths.iter().sum::<f64>() / lengths.len() as f64
    };
    let (all, picked) = (mean(&|_| true), mean(&|r| chosen.contains(&r.id)));
    assert!((all - picked).abs() < 0.02 * all, "{all} {picked}");
}

/// By how much each choice falls short of the best gain there was, all pairs counted in double precision.
fn regrets(rows: &[Row], chosen: &[u64]) -> Vec<f64> {
    let dot =
        |a: &Row, b: &Row| a.vector.iter().zip(&b.vector).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let mut best = vec![0f64; rows.len()];
    let regret = |id: &u64| {
        let gain = |j: &Row| -> f64 { rows.iter().zip(&best).map(|(i, best)| (dot(i, j) - best).max(0.0)).sum() };
        let taken = rows.iter().find(|row| row.id == *id).unwrap();
        let regret = rows.iter().map(gain).fold(0.0, f64::max) - gain(taken);
        rows.iter().zip(&mut best).for_each(|(i, best)| *best = best.max(dot(i, taken)));
        regret
    };
    chosen.iter().map(regret).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn facility_location_is_greedy_where_all_are_neighbours(n in 2usize..40, seed in any::<u64>()) {
        let mut rows = super::pools::rows(n, seed);
        for row in &mut rows {
            let norm = row.vector.iter().map(|v| v * v).sum::<f32>().sqrt();
            row.vector.iter_mut().for_each(|v| *v /= norm);
        }
        let budget = rows.len().div_ceil(3);
        let lazy = method("facility-location", &json!({"neighbours": 64}))
            .select(&pool(&rows), curate_core::Budget::Rows(budget), &Ctx::new(0)).unwrap();
        let regrets = regrets(&rows, &lazy.rows());
        prop_assert!(regrets.iter().all(|&regret| regret < 1e-5), "{regrets:?}");
        prop_assert!(lazy.picks.windows(2).all(|w| w[0].score >= w[1].score));
    }

    #[test]
    fn shares_add_up_and_keep_to_the_caps(
        groups in prop::collection::vec((0.0f64..10.0, 0u64..50), 0..30), budget in 0u64..2000, zero in 0usize..3,
    ) {
        let weights: Vec<f64> = groups.iter().enumerate().map(|(j, g)| if j % 3 < zero { 0.0 } else { g.0 }).collect();
        let caps: Vec<u64> = groups.iter().map(|g| g.1).collect();
        let given = curate_selectors::allocate::allocate(&weights, &caps, budget);
        let total: u64 = caps.iter().sum();
        prop_assert_eq!(given.rows.iter().sum::<u64>(), budget.min(total));
        prop_assert_eq!(given.shortfall, budget - budget.min(total));
        prop_assert!(given.rows.iter().zip(&caps).all(|(rows, cap)| rows <= cap));
    }
}
