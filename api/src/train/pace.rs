//! How fast a run learned, from its log: time of evaluations and checkpoints is none of the steps'.

use serde_json::Value;
use std::path::Path;

/// Seconds of all steps in the log of a run; 0 where there is none.
pub(super) fn pace(folder: &Path) -> f64 {
    std::fs::read_to_string(folder.join("log.jsonl")).map_or(0.0, |text| seconds(&text))
}

fn seconds(log: &str) -> f64 {
    let (mut sum, mut before) = (0.0, 0.0);
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let (Some(tokens), Some(rate)) = (line["tokens"].as_f64(), line["tok_s"].as_f64()) else { continue };
        if rate > 0.0 {
            sum += (tokens - before).max(0.0) / rate;
        }
        before = tokens;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn evaluations_do_not_count() {
        let log = "{\"step\":1,\"tokens\":100,\"tok_s\":50}\n{\"step\":1,\"eval_loss\":2.0,\"eval_tokens\":9}\n\
                   {\"step\":2,\"tokens\":400,\"tok_s\":100}\n";
        assert!((seconds(log) - 5.0).abs() < 1e-12);
        assert!(seconds("") < 1e-12);
    }
}
