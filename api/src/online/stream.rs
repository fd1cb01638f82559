//! Candidates without end, epoch after epoch, in an order drawn from the seed, with never more than a window of the corpus in
//! memory.
//!
//! An epoch is an order of the input's units; consecutive units form windows of at least `window_rows` rows; the rows of a
//! window are shuffled together. A corpus of one window is thus a plain shuffle. Where the stream stands is three numbers,
//! so a checkpoint need not hold rows. A batch never reaches into the next epoch; a remainder too short for one is dropped.

use crate::train::Rows;
use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use curate_core::{Column, Ctx, Error, Pool, Result, Rng};
use curate_trainer::data::{TEXT, TRAINED};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The first row that was not given out yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epoch, from 0.
    pub(super) epoch: u64,
    /// Window of the epoch.
    pub(super) window: usize,
    /// Row of the shuffled window.
    pub(super) row: usize,
}

/// Shuffled rows of a window that are still to be given out.
struct Piece {
    window: usize,
    first: usize,
    batch: RecordBatch,
}

/// The stream.
pub(super) struct Stream<'a> {
    rows: Rows<'a>,
    held: Option<f64>,
    window_rows: usize,
    ctx: Ctx,
    lot: Ctx,
    order: Vec<usize>,
    windows: Vec<Range<usize>>,
    next_window: usize,
    pieces: VecDeque<Piece>,
    at: Position,
    given_epoch: u64,
    /// Candidates are questions with their answers apart, for a learner that answers them itself.
    pub(super) asks: bool,
}

impl<'a> Stream<'a> {
    /// A stream at its beginning. A share of the rows is `held` back by the lot that `ctx` draws.
    pub(super) fn new(rows: Rows<'a>, held: Option<f64>, window_rows: usize, ctx: &Ctx) -> Self {
        let (order, windows, pieces) = (Vec::new(), Vec::new(), VecDeque::new());
        let (own, at) = (ctx.labelled("candidates"), Position::default());
        let lot = ctx.clone();
        let mut stream = Self {
            rows,
            held,
            window_rows,
            ctx: own,
            lot,
            order,
            windows,
            next_window: 0,
            pieces,
            at,
            given_epoch: 0,
            asks: false,
        };
        stream.begin(0);
        stream
    }

    /// Where the stream stands.
    pub(super) const fn position(&self) -> Position {
        self.at
    }

    /// Epoch of the rows given out last.
    pub(super) const fn given_epoch(&self) -> u64 {
        self.given_epoch
    }

    /// Go on from a position.
    ///
    /// # Errors
    /// `online/position` when the stream has no such place; what reading gives.
    pub(super) fn go_to(&mut self, to: Position) -> Result<()> {
        self.begin(to.epoch);
        self.next_window = to.window;
        if to.row > 0 {
            self.load()?;
            let piece = self.pieces.front_mut().filter(|piece| piece.batch.num_rows() > to.row);
            let Some(piece) = piece else {
                return Err(Error::data(
                    "online/position",
                    format!("the stream has no row {} in window {}", to.row, to.window),
                )
                .hint("the input changed since the checkpoint was written; start again in another folder"));
            };
            piece.batch = piece.batch.slice(to.row, piece.batch.num_rows() - to.row);
            piece.first = to.row;
        }
        self.at = to;
        Ok(())
    }

    /// The next candidates, `rows` of them where the epoch still has as many, at least `least`; in order of row id.
    ///
    /// # Errors
    /// `online/stream-ended` when a whole epoch has fewer than `least`; what reading gives; `cancelled`.
    pub(super) fn next(&mut self, rows: usize, least: usize) -> Result<Pool> {
        loop {
            while self.ready() < rows && self.next_window < self.windows.len() {
                self.load()?;
            }
            let ready = self.ready();
            if ready >= least.max(1) {
                return self.take(rows.min(ready));
            }
            if self.at.window == 0 && self.at.row == 0 {
                return Err(ended(ready, least));
            }
            self.begin(self.at.epoch + 1);
        }
    }

    fn ready(&self) -> usize {
        self.pieces.iter().map(|piece| piece.batch.num_rows()).sum()
    }

    /// Draw the order of an epoch.
    fn begin(&mut self, epoch: u64) {
        let units = self.rows.source.units();
        self.order = shuffled(units.len(), &mut self.ctx.rng("units", epoch));
        self.windows.clear();
        let (mut start, mut held) = (0, 0);
        for (place, &unit) in self.order.iter().enumerate() {
            held += units[unit].rows as usize;
            if held >= self.window_rows || place + 1 == self.order.len() {
                self.windows.push(start..place + 1);
                (start, held) = (place + 1, 0);
            }
        }
        self.pieces.clear();
        self.next_window = 0;
        self.at = Position { epoch, window: 0, row: 0 };
    }

    /// Read the next window and shuffle it.
    fn load(&mut self) -> Result<()> {
        let window = self.next_window;
        let units = self.windows.get(window).cloned().unwrap_or_default();
        let parts = self.order[units].iter().map(|&unit| self.unit(unit)).collect::<Result<Vec<_>>>()?;
        self.next_window += 1;
        let Some(one) = parts.first() else { return Ok(()) };
        let all = concat_batches(one.schema_ref(), &parts)?;
        let label = self.ctx.labelled(&format!("epoch {}", self.at.epoch));
        let order = shuffled(all.num_rows(), &mut label.rng("window", window as u64));
        let order: UInt32Array = order.into_iter().map(|at| at as u32).collect();
        let batch = take_record_batch(&all, &order)?;
        if batch.num_rows() > 0 {
            self.pieces.push_back(Piece { window, first: 0, batch });
        }
        Ok(())
    }

    /// The rows of a unit that have something to learn and are not held back.
    fn unit(&self, unit: usize) -> Result<RecordBatch> {
        if self.asks {
            return self.questions(unit);
        }
        let (pool, found) = self.rows.unit(&self.rows.source.units()[unit], &self.ctx)?;
        let ids = pool.ids()?;
        let held = lot(self.held, &self.lot);
        let mut kept = found.sequences.iter().map(|s| s.row).filter(|row| !held(*row)).peekable();
        let places = (0u32..).zip(&ids).filter(|(_, id)| kept.next_if(|row| row == *id).is_some());
        let places: UInt32Array = places.map(|(place, _)| place).collect();
        let columns = [Column::ROW, Column::named(TEXT), Column::named(TRAINED)];
        let batch = pool.chunk(0, &columns.each_ref())?;
        Ok(take_record_batch(&batch, &places)?)
    }

    /// The rows of a unit that ask something, with the columns `prompt` and `completion`.
    fn questions(&self, unit: usize) -> Result<RecordBatch> {
        let source = self.rows.source;
        let data = source.read(&source.units()[unit], None)?;
        let (mut ids, mut prompts, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (row, conversation) in data.rows.iter().zip(source.layout().conversations(&data.batch)?) {
            if let Some((prompt, answer)) = self.rows.renderer.question(&conversation)? {
                ids.push(*row);
                prompts.push(prompt);
                answers.push(answer);
            }
        }
        let columns: [(&str, ArrayRef); 3] = [
            (Column::ROW.as_str(), Arc::new(UInt64Array::from(ids))),
            ("prompt", Arc::new(StringArray::from(prompts))),
            ("completion", Arc::new(StringArray::from(answers))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }

    fn take(&mut self, rows: usize) -> Result<Pool> {
        let (mut parts, mut left) = (Vec::new(), rows);
        self.given_epoch = self.at.epoch;
        while left > 0 {
            let Some(mut piece) = self.pieces.pop_front() else { break };
            let own = piece.batch.num_rows();
            let taken = own.min(left);
            parts.push(piece.batch.slice(0, taken));
            left -= taken;
            self.at = Position { row: 0, window: piece.window + 1, ..self.at };
            if taken < own {
                piece.first += taken;
                self.at = Position { row: piece.first, window: piece.window, ..self.at };
                piece.batch = piece.batch.slice(taken, own - taken);
                self.pieces.push_front(piece);
            }
        }
        let Some(one) = parts.first() else { return Err(ended(0, rows)) };
        let all = concat_batches(one.schema_ref(), &parts)?;
        let order = sort_to_indices(all.column(0), None, None)?;
        Ok(Pool::from_batch(take_record_batch(&all, &order)?))
    }
}

/// What is said of a stream too short for a step.
pub(super) fn ended(rows: usize, needed: usize) -> Error {
    Error::data("online/stream-ended", format!("the stream ended after {rows} rows, and a step needs {needed}"))
        .hint("give more rows, or lower --batch-size; rows without an answer to learn do not count")
}

/// Which rows are held back to judge by: a share, drawn by `ctx`; the same rows as a run over fixed rows holds back.
pub(crate) fn lot(share: Option<f64>, ctx: &Ctx) -> impl Fn(u64) -> bool + use<> {
    let drawn = ctx.stream("held out");
    move |row| share.is_some_and(|share| drawn(row).uniform() < share)
}

/// The numbers below `n` in an order that `rng` draws (Fisher-Yates).
pub(super) fn shuffled(n: usize, rng: &mut Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, rng.below(last as u64 + 1) as usize);
    }
    order
}

/// Row ids of candidates, for the log.
pub(super) fn ids_digest(ids: &[u64]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    blake3::hash(&bytes).to_hex()[..16].to_owned()
}
