//! What a model sees at once: sequences laid end to end, without padding.

use std::ops::Range;

/// The label of a token on which nothing is trained.
pub const IGNORE: u32 = u32::MAX;

/// One row, tokenised. `labels[i]` is the token expected **at** position `i`, given the tokens before it (as in
/// `transformers`), or [`IGNORE`]; `labels[0]` is never used.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Row id in the pool.
    pub row: u64,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Labels, one a token.
    pub labels: Vec<u32>,
    /// What its labels weigh in the loss that is trained on; 1 unless the row came with a weight of its own.
    pub weight: f32,
}

impl Default for Sequence {
    fn default() -> Self {
        Self { row: 0, tokens: Vec::new(), labels: Vec::new(), weight: 1.0 }
    }
}

impl Sequence {
    /// Tokens that carry a loss.
    #[must_use]
    pub fn labelled(&self) -> usize {
        self.labels.iter().skip(1).filter(|label| **label != IGNORE).count()
    }
}

/// Sequences laid end to end: attention never crosses from one to another, positions restart at each. Packing and
/// length bucketing only decide which sequences share a batch; neither changes a loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Token ids of all sequences.
    pub tokens: Vec<u32>,
    /// Labels of all sequences; the first of each is [`IGNORE`].
    pub labels: Vec<u32>,
    /// Token range of each sequence.
    pub segments: Vec<Range<usize>>,
    /// Row id of each sequence.
    pub rows: Vec<u64>,
    /// Weight of each sequence.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Lay sequences end to end.
    #[must_use]
    pub fn of<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Self {
        let mut batch = Self::default();
        for sequence in sequences {
            let start = batch.tokens.len();
            batch.tokens.extend_from_slice(&sequence.tokens);
            batch.labels.extend_from_slice(&sequence.labels);
            if let Some(first) = batch.labels.get_mut(start) {
                *first = IGNORE;
            }
            batch.segments.push(start..batch.tokens.len());
            batch.rows.push(sequence.row);
            batch.weights.push(sequence.weight);
        }
        batch
    }

    /// Tokens that carry a loss.
    #[must_use]
    pub fn labelled(&self) -> usize {
        self.labels.iter().filter(|label| **label != IGNORE).count()
    }

    /// Some of its sequences, by their numbers.
    #[must_use]
    pub(crate) fn part(&self, sequences: Range<usize>) -> Self {
        let segments = &self.segments[sequences.clone()];
        let start = segments.first().map_or(0, |first| first.start);
        let tokens = start..segments.last().map_or(start, |last| last.end);
        Self {
            tokens: self.tokens[tokens.clone()].to_vec(),
            labels: self.labels[tokens].to_vec(),
            segments: segments.iter().map(|s| s.start - start..s.end - start).collect(),
            rows: self.rows[sequences.clone()].to_vec(),
            weights: self.weights[sequences].to_vec(),
        }
    }

    /// The same batch, every row with a weight of 1.
    #[must_use]
    pub fn unweighted(mut self) -> Self {
        self.weights.fill(1.0);
        self
    }

    /// The weights of all labels together: their number where every row weighs 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn mass(&self) -> f64 {
        let labelled = |range: &Range<usize>| self.labels[range.clone()].iter().filter(|l| **l != IGNORE).count();
        self.segments.iter().zip(&self.weights).map(|(range, w)| f64::from(*w) * labelled(range) as f64).sum()
    }

    /// The weight of every token's row; none where all are 1.
    #[expect(clippy::float_cmp, reason = "a weight of 1 changes nothing")]
    pub(crate) fn token_weights(&self) -> Option<Vec<f32>> {
        let each = || self.segments.iter().zip(&self.weights);
        let any = self.weights.iter().any(|weight| *weight != 1.0);
        any.then(|| each().flat_map(|(range, weight)| std::iter::repeat_n(*weight, range.len())).collect())
    }
}
