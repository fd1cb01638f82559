//! Golden vectors of `datasets/golden/{instructmining,text_indicators,dealrec}`, made by independent double-precision code.

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field};
use curate_core::{Column, Ctx, Pool, Scorer};
use curate_scorers::ifd::{Ifd, Ratio};
use curate_scorers::instructmining::{InstructMining, Version, chance_of_yes};
use curate_scorers::knn_distance::{Distance, KnnDistance};
use curate_scorers::length::{Length, Unit};
use curate_scorers::mtld::{Mtld, Walk};
use curate_scorers::perplexity::Perplexity;
use curate_scorers::words::{numbered, words};
use curate_scorers::{Damping, fit_rule, inverse_hessian};
use serde_json::Value;
use std::sync::Arc;

fn file(family: &str, name: &str) -> Value {
    let path = curate_datasets::golden(family, &format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn cases(family: &str, name: &str) -> Vec<Value> {
    file(family, name)["cases"].as_array().cloned().unwrap_or_else(|| vec![file(family, name)])
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn flat(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().flat_map(floats).collect()
}

fn field(rows: &Value, name: &str) -> Vec<f64> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_f64().unwrap()).collect()
}

fn close(got: &[f64], expected: &[f64], rtol: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= rtol * e.abs() + rtol.min(1e-7), "{what}: {g} is not {e}");
    }
}

/// A pool of columns of numbers.
fn pool(columns: &[(&str, &[f64])]) -> Pool {
    let array = |v: &[f64]| Arc::new(v.iter().map(|&v| Some(v as f32)).collect::<Float32Array>()) as ArrayRef;
    Pool::from_batch(RecordBatch::try_from_iter(columns.iter().map(|(name, v)| (*name, array(v)))).unwrap())
}

fn scores(scorer: &dyn Scorer, pool: &Pool) -> Vec<f64> {
    scorer.score(pool, &Ctx::new(0)).unwrap().values().iter().map(|&v| f64::from(v)).collect()
}

/// Places of the highest scores, ties to the lower row.
fn best(scores: &[f64], count: usize) -> Vec<u64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order[..count].iter().map(|&i| i as u64).collect()
}

fn whole(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

#[test]
fn rules_predict_and_choose_as_published() {
    for case in cases("instructmining", "rule") {
        let (rows, count) = (&case["input"]["rows"], case["input"]["select"].as_u64().unwrap() as usize);
        let of = |name: &str| field(rows, name);
        let pool = pool(&[
            ("score.reward", &of("rew")),
            ("tokens", &of("len")),
            ("score.knn-distance", &of("knn6")),
            ("score.understandability", &of("und")),
            ("score.naturalness", &of("nat")),
            ("score.coherence", &of("coh")),
        ]);
        let readme = "1.0694 - 0.1498*score.reward + 8.257e-5*tokens - 0.9350*knn-distance";
        let mine = |version, rule: Option<&str>| InstructMining { version, rule: rule.map(str::to_owned) };
        for (name, scorer) in [
            ("v1_code", mine(Version::V1, None)),
            ("v1_readme", mine(Version::V1, Some(readme))),
            ("v3", mine(Version::Later, None)),
        ] {
            let (expected, got) = (&case["expected"][name], scores(&scorer, &pool));
            close(&got, &floats(&expected["quality"]), 1e-6, name);
            assert_eq!(best(&got, count), whole(&expected["selected"]), "{name}");
        }
    }
}

#[test]
fn a_rule_is_fitted_as_statisticians_do() {
    for case in cases("instructmining", "ols") {
        let (input, expected) = (&case["input"], &case["expected"]);
        let names: Vec<&str> = input["names"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        let fit = fit_rule(&names, &flat(&input["x"]), &floats(&input["log_loss"])).unwrap();
        let near = |got: &[f64], name: &str| {
            for (g, e) in got.iter().zip(floats(&expected[name])) {
                assert!((g - e).abs() <= 1e-9 * e.abs() + 1e-12, "{name}: {g} is not {e}");
            }
        };
        near(&fit.coefficients, "coef");
        near(&fit.standard_errors, "std_err");
        near(&fit.t, "t");
        near(&fit.p, "p_value");
        let figure = |name: &str| expected[name].as_f64().unwrap();
        close(&[fit.r2, fit.adjusted_r2, fit.sse], &["r2", "adj_r2", "sse"].map(figure), 1e-10, "figures");
        assert_eq!(fit.degrees_of_freedom as u64, expected["dof"].as_u64().unwrap());
        let columns: Vec<Column> = names.iter().map(|name| Column::score(name)).collect();
        let read: curate_scorers::Rule = fit.rule(&columns).to_string().parse().unwrap();
        assert_eq!(read, fit.rule(&columns), "a fitted rule can be written and read");
    }
}

#[test]
fn unieval_by_its_formula() {
    for case in cases("instructmining", "unieval") {
        let (yes, no) = (floats(&case["input"]["logit_yes"]), floats(&case["input"]["logit_no"]));
        let got: Vec<f64> = yes.iter().zip(&no).map(|(&y, &n)| chance_of_yes(y, n)).collect();
        close(&got, &floats(&case["expected"]["score"]), 1e-12, "unieval");
    }
}

#[test]
fn words_and_their_variety() {
    for case in cases("text_indicators", "mtld") {
        let (input, expected) = (&case["input"], &case["expected"]);
        let tokens: Vec<String> = match input["text"].as_str() {
            Some(text) => words(text).collect(),
            None => input["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect(),
        };
        if let Some(text) = input["text"].as_str() {
            assert_eq!(Value::from(tokens.clone()), expected["tokens"]);
            check_lengths(text, &expected["length"]);
        }
        let numbers = numbered(tokens.iter());
        for (key, strict) in [("le", false), ("lt", true)] {
            let mtld = Mtld { threshold: input["threshold"].as_f64().unwrap(), strict };
            check_walk(mtld.walk(numbers.iter()), &expected[key]["forward"]);
            check_walk(mtld.walk(numbers.iter().rev()), &expected[key]["backward"]);
            close(&[mtld.of(&numbers)], &[expected[key]["mtld"].as_f64().unwrap()], 1e-12, key);
        }
    }
}

fn check_walk(walk: Walk, expected: &Value) {
    assert_eq!(u64::from(walk.full_factors), expected["full_factors"].as_u64().unwrap());
    assert_eq!(walk.saturated, expected["saturated"].as_bool().unwrap());
    let told = ["partial_factor", "mtld"].map(|key| expected[key].as_f64().unwrap());
    close(&[walk.partial_factor, walk.mtld], &told, 1e-12, "one direction");
}

fn check_lengths(text: &str, expected: &Value) {
    let texts = Arc::new(arrow::array::StringArray::from(vec![text])) as ArrayRef;
    let pool = Pool::from_batch(RecordBatch::try_from_iter([("text", texts)]).unwrap());
    for (unit, key) in [(Unit::Chars, "unicode_scalars"), (Unit::Bytes, "utf8_bytes"), (Unit::Words, "words_w1")] {
        let got = scores(&Length { unit, ..Length::default() }, &pool);
        assert_eq!(got, [expected[key].as_f64().unwrap()], "{key}");
    }
}

#[test]
fn distances_to_the_kth_neighbour() {
    for case in cases("text_indicators", "knn") {
        let points = flat(&case["input"]["points"]);
        let dim = case["input"]["points"][0].as_array().unwrap().len();
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let values = Float32Array::from(points.iter().map(|&v| v as f32).collect::<Vec<f32>>());
        let vectors = FixedSizeListArray::new(item, dim as i32, Arc::new(values), None);
        let pool =
            Pool::from_batch(RecordBatch::try_from_iter([("embedding", Arc::new(vectors) as ArrayRef)]).unwrap());
        for (distance, key) in [(Distance::Euclidean, "euclidean"), (Distance::Cosine, "cosine")] {
            let Some(told) = case["expected"][key].as_object() else { continue };
            for (k, expected) in told.iter().filter(|(_, v)| !v["distance"][0].is_null()) {
                let knn = KnnDistance { k: k.parse().unwrap(), distance, ..KnnDistance::default() };
                close(&scores(&knn, &pool), &floats(&expected["distance"]), 1e-5, key);
            }
        }
    }
}

#[test]
fn perplexities_and_what_they_keep() {
    for case in cases("text_indicators", "perplexity") {
        let rows = case["input"]["rows"].as_array().unwrap();
        let loss = |row: &Value| {
            let (log, mask) = (floats(&row["logprob"]), floats(&row["mask"]));
            let learnt: f64 = mask.iter().sum();
            (learnt > 0.0).then(|| -log.iter().zip(&mask).map(|(l, m)| l * m).sum::<f64>() / learnt)
        };
        let valid: Vec<(u64, f64, &Value)> = rows
            .iter()
            .zip(case["expected"]["rows"].as_array().unwrap())
            .zip(0..)
            .filter_map(|((row, told), at)| loss(row).map(|loss| (at, loss, told)))
            .collect();
        let losses: Vec<f64> = valid.iter().map(|(_, loss, _)| *loss).collect();
        let got = scores(&Perplexity::default(), &pool(&[("signal.loss", &losses)]));
        let told: Vec<f64> = valid.iter().map(|(.., told)| -told["ppl"].as_f64().unwrap()).collect();
        close(&got, &told, 1e-6, "perplexity");
        let kept = whole(&case["expected"]["kept_lowest"]);
        let places: Vec<u64> = best(&got, kept.len()).iter().map(|&i| valid[i as usize].0).collect();
        assert_eq!(places, kept);
    }
}

#[test]
fn difficulty_by_both_ratios() {
    for case in cases("text_indicators", "ifd") {
        let mean = |pair: &Value, key: &str| floats(&pair[key]).iter().sum::<f64>() / floats(&pair[key]).len() as f64;
        let pairs = case["input"]["pairs"].as_array().unwrap();
        let of = |key: &str| pairs.iter().map(|pair| mean(pair, key)).collect::<Vec<f64>>();
        let pool = pool(&[("signal.loss", &of("nll_given_prompt")), ("signal.loss_alone", &of("nll_alone"))]);
        for (ratio, key) in [(Ratio::Loss, "ifd_loss_ratio"), (Ratio::Perplexity, "ifd_ppl_ratio")] {
            let plain = scores(&Ifd { ratio, misfits_last: false }, &pool);
            close(&plain, &field(&case["expected"], key), 1e-6, key);
            let signed = scores(&Ifd { ratio, misfits_last: true }, &pool);
            for (told, score) in case["expected"].as_array().unwrap().iter().zip(signed) {
                let kept = &told["kept_by_ppl_ratio_below_1"];
                assert_eq!(Some(score > 0.0), kept.as_bool(), "{key}: {score}");
            }
        }
    }
}

#[test]
fn the_inverse_hessian_is_exact() {
    for name in ["influence_logistic", "influence_mlp"] {
        for case in cases("dealrec", name) {
            let (hessian, v) = (flat(&case["hessian_mean"]), floats(&case["mean_gradient"]));
            let gradients: Vec<Vec<f64>> = case["grad"].as_array().unwrap().iter().map(floats).collect();
            for (key, damping) in [("exact_inverse", Damping::plain(0.0)), ("damped_fixed_point", Damping::released())]
            {
                let h = inverse_hessian(&hessian, &v, damping).unwrap();
                close(&h, &floats(&case[key]["h"]), 1e-9, key);
                let along = |g: &Vec<f64>| g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>();
                let influence: Vec<f64> = gradients.iter().map(along).collect();
                close(&influence, &floats(&case[key]["influence"]), 1e-9, key);
            }
            let error = inverse_hessian(&hessian, &v, Damping::plain(-1.0)).unwrap_err();
            assert_eq!(error.code(), "influence/indefinite");
        }
    }
}
