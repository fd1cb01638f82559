//! Several answers to one question: the majority's, and the chance that one of k is right.
//!
//! `maj@N`: the answer given most often; ties go to the one given first; samples without an answer do not vote.
//! `pass@k = 1 - C(n - c, k) / C(n, k)` for c right of n samples, the unbiased estimate (Chen et al. 2021, arXiv 2107.03374,
//! equation 1), as the product of `1 - k/i` over `n - c < i <= n`. Cost: O(N log N); O(c).

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The answer given most often.
#[must_use]
pub fn majority<S: AsRef<str>>(answers: &[Option<S>]) -> Option<&str> {
    let mut counts: BTreeMap<&str, (usize, Reverse<usize>)> = BTreeMap::new();
    for (at, answer) in answers.iter().enumerate() {
        if let Some(answer) = answer {
            counts.entry(answer.as_ref()).or_insert((0, Reverse(at))).0 += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, votes)| *votes).map(|(answer, _)| answer)
}

/// Whether the majority of the first `n` samples is right.
#[must_use]
pub fn majority_correct<S: AsRef<str>>(answers: &[Option<S>], n: usize, label: &str) -> bool {
    majority(&answers[..n.min(answers.len())]) == Some(label)
}

/// Chance that at least one of `k` samples is right, from `correct` of `n`; `None` when `k` is 0 or more than `n`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "sample counts are small")]
pub fn pass_at(k: u64, correct: u64, n: u64) -> Option<f64> {
    if k == 0 || k > n || correct > n {
        return None;
    }
    if n - correct < k {
        return Some(1.0);
    }
    let none: f64 = (n - correct + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    Some(1.0 - none)
}
