//! How a learner looks at rows: one forward pass, one pass back where gradients are asked for, nothing changed.
//!
//! Source: own work. Norms of gradients come from ghost products where adapters alone are trained, and from a pass of each row by
//! itself otherwise. Weights of rows do not count. Where a step may follow, the pass is kept for it ([`SignalOptions::share_bytes`](crate::signals::SignalOptions)).

use super::{SftLearner, Trainable};
use crate::lora::is_adapter;
use crate::model::{Losses, Model, Trace};
use crate::optim::sum_of_squares;
use crate::signals::{Row, Tap, Wanted, of_hidden};
use crate::{Batch, Grads, Params, Sequence};
use curate_core::{Ctx, Error, Result};

/// What the losses do not say of the rows of a batch.
#[derive(Default)]
struct Extra {
    hidden: Vec<(f64, Vec<f32>)>,
    /// Norm of each row's gradient, of its summed loss.
    norms: Vec<f64>,
    last: Vec<f64>,
    /// Inner products of all pairs of gradients of summed losses.
    pairs: Vec<f64>,
}

impl<M: Trainable> SftLearner<M> {
    /// What is wanted of the rows.
    pub(super) fn look(&mut self, rows: &[Sequence], want: &Wanted, ctx: &Ctx) -> Result<Vec<Row>> {
        self.prepare(want, ctx)?;
        self.forget();
        let mut found = Vec::with_capacity(rows.len());
        if want.pairs() {
            let all: Vec<Sequence> = rows.iter().chain(&self.validation).cloned().collect();
            found = self.look_at(&all, rows.len(), want, ctx)?;
            found.truncate(rows.len());
        } else {
            for group in rows.chunks(self.config.batch_size.max(1)) {
                ctx.tick(0)?;
                found.extend(self.look_at(group, group.len(), want, ctx)?);
            }
        }
        if want.has("loss_generated") {
            self.own_answers(rows, &mut found, ctx)?;
        }
        Ok(found)
    }

    /// Refuse what this model or this call cannot give; prepare the head.
    fn prepare(&mut self, want: &Wanted, ctx: &Ctx) -> Result<()> {
        let Some(model) = self.model.transformer() else {
            let inside = ["grad_norm_last", "loss_generated"].iter().any(|name| want.has(name));
            let special = want.hidden() || want.pairs() || inside;
            let unsupported = Error::usage("signal/unsupported", "this kind of model has no hidden states to look at")
                .hint("ask for loss, accuracy, tokens, labels, logprob_* or grad_norm");
            return if special { Err(unsupported) } else { Ok(()) };
        };
        if want.has("ghost_validation") && self.validation.is_empty() {
            return Err(Error::usage("signal/validation-missing", "signal.ghost_validation needs validation rows")
                .hint("name rows of the task to be learned as validation rows"));
        }
        if want.has("sketch") && self.sketch.is_none() {
            let places = self.signals.sketch.places(self.config.max_length)?;
            let ctx = Ctx::new(self.sketch_seed);
            self.sketch = Some(self.signals.sketch.draw(model.config.vocab_size, places, &ctx)?);
        }
        self.heads.prepare(model, self.steps, (want, self.sketch.as_ref()), ctx)
    }

    fn look_at(&mut self, group: &[Sequence], own: usize, want: &Wanted, ctx: &Ctx) -> Result<Vec<Row>> {
        let batch = Batch::of(group).unweighted();
        let (losses, extra) = if self.model.transformer().is_some() {
            self.look_inside(group, &batch, want, ctx)?
        } else {
            let losses = self.model.losses(&batch, ctx)?;
            let norms = if want.has("grad_norm") { self.norms_alone(group, None, ctx)? } else { Vec::new() };
            (losses, Extra { norms, ..Extra::default() })
        };
        let mut rows = Row::read(&batch, &losses)?;
        extra.enter(&mut rows, own);
        Ok(rows)
    }

    fn look_inside(&mut self, group: &[Sequence], batch: &Batch, want: &Wanted, ctx: &Ctx) -> Result<(Losses, Extra)> {
        let Some(model) = self.model.transformer() else { return Ok((Losses::default(), Extra::default())) };
        let back = want.pairs() || want.has("grad_norm");
        if model.is_accelerated() && !back && !want.has("grad_norm_last") {
            return self.look_from_above(model, batch, want, ctx);
        }
        let share = self.signals.share_bytes > 0 && !model.is_accelerated();
        let trace = if back || share { model.trace(batch, self.options(), ctx)? } else { model.stream(batch, ctx)? };
        let (mut extra, mut losses) = (Extra::default(), None);
        if want.hidden() {
            let hidden = model.trace_hidden(&trace);
            let states = (hidden.as_slice(), model.config.hidden_size);
            extra.hidden = of_hidden(&self.heads, states, batch, self.signals.token_scope, ctx)?;
        }
        if want.has("grad_norm_last") {
            let mut grads = Grads::tapped(Tap::of_head(group.len()));
            losses = Some(model.trace_head(batch, &trace, &mut grads, ctx)?);
            extra.last = grads.into_tap().map(Tap::into_products).map_or_else(Vec::new, |all| roots(all.iter()));
        }
        if want.pairs() || (back && self.by_ghosts()) {
            losses = Some(self.look_back((batch, &trace), (want, &mut extra), ctx)?);
        }
        if want.has("grad_norm") && !self.by_ghosts() {
            extra.norms = self.norms_alone(group, Some((batch, &trace)), ctx)?;
        }
        let losses = match losses {
            Some(losses) => losses,
            None if want.losses() => model.trace_losses(batch, &trace, ctx)?,
            None => Losses::unasked(batch),
        };
        self.shelf.put(model, group, (batch.clone(), trace), if share { self.signals.share_bytes } else { 0 });
        Ok((losses, extra))
    }

    /// The same for what needs no more than losses and last hidden states, on the model's device.
    fn look_from_above(&self, model: &Model, batch: &Batch, want: &Wanted, ctx: &Ctx) -> Result<(Losses, Extra)> {
        if !want.hidden() {
            let losses = if want.losses() { model.losses(batch, ctx)? } else { Losses::unasked(batch) };
            return Ok((losses, Extra::default()));
        }
        let (hidden, losses) = model.states(batch, ctx)?;
        let states = (hidden.as_slice(), model.config.hidden_size);
        let hidden = of_hidden(&self.heads, states, batch, self.signals.token_scope, ctx)?;
        Ok((losses, Extra { hidden, ..Extra::default() }))
    }

    /// Whether ghost products see all that is trained.
    fn by_ghosts(&self) -> bool {
        self.model.params().iter().filter(|(_, t)| t.trained).all(|(_, t)| is_adapter(&t.name))
    }

    /// Inner products on the way back.
    fn look_back(
        &self,
        (batch, trace): (&Batch, &Trace),
        (want, extra): (&Wanted, &mut Extra),
        ctx: &Ctx,
    ) -> Result<Losses> {
        let Some(model) = self.model.transformer() else { return Ok(Losses::default()) };
        let count = batch.segments.len();
        let mut grads = Grads::tapped(Tap::new(count, want.pairs()));
        let copy = model.gather(&[(trace, 0..trace.tokens())]);
        let losses = model.trace_gradients(batch, copy, 1.0, &mut grads, ctx)?;
        let products = grads.into_tap().map(Tap::into_products).unwrap_or_default();
        extra.norms = roots(products.iter().step_by(if want.pairs() { count + 1 } else { 1 }));
        extra.pairs = if want.pairs() { products } else { Vec::new() };
        Ok(losses)
    }

    /// Norms of the gradients of the rows' summed losses, a pass back for each; forward too where there is no trace.
    fn norms_alone(&self, group: &[Sequence], trace: Option<(&Batch, &Trace)>, ctx: &Ctx) -> Result<Vec<f64>> {
        let mut grads = Grads::zeros(self.model.params());
        let norm = |(at, row): (usize, &Sequence)| {
            ctx.tick(0)?;
            grads.clear();
            let one = Batch::of([row]).unweighted();
            match (self.model.transformer(), trace) {
                (Some(model), Some((batch, trace))) => {
                    let own = model.gather(&[(trace, batch.segments[at].clone())]);
                    model.trace_gradients(&one, own, 1.0, &mut grads, ctx)?;
                }
                _ => drop(self.model.gradients(&one, 1.0, self.options(), &mut grads, ctx)?),
            }
            Ok(norm(self.model.params(), &grads))
        };
        group.iter().enumerate().map(norm).collect()
    }

    /// Drop what a probe has left behind.
    pub(super) fn forget(&mut self) {
        if let Some(model) = self.model.transformer() {
            self.shelf.clear(model);
        }
    }

    /// Add the gradients of some rows to those of the step, from what a probe has left or by a pass of their own.
    pub(super) fn learn(&mut self, group: &[Sequence], mass: f64, ctx: &Ctx) -> Result<Vec<Row>> {
        #[expect(clippy::cast_possible_truncation, reason = "weights are bounded on both sides")]
        let (batch, options, scale) = (Batch::of(group), self.options(), (1.0 / mass) as f32);
        let kept = self.model.transformer().and_then(|model| Some((model, self.shelf.take(model, group)?)));
        let losses = match kept {
            Some((model, trace)) => model.trace_gradients(&batch, trace, scale, &mut self.grads, ctx)?,
            None => self.model.gradients(&batch, scale, options, &mut self.grads, ctx)?,
        };
        Row::read(&batch, &losses)
    }
}

impl Extra {
    /// Hand everything to its row, for gradients of mean losses; the first `own` rows are the batch, the others validate.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "signals are f32")]
    fn enter(self, rows: &mut [Row], own: usize) {
        let labels: Vec<f64> = rows.iter().map(|row| row.labels.max(1) as f64).collect();
        let count = rows.len();
        for (at, row) in rows.iter_mut().enumerate() {
            row.grad_norm = self.norms.get(at).map_or(0.0, |norm| norm / labels[at]);
            row.grad_norm_last = self.last.get(at).map_or(0.0, |norm| norm / labels[at]);
            if !self.pairs.is_empty() {
                let products = &self.pairs[at * count..(at + 1) * count];
                let scaled = products.iter().zip(&labels).map(|(product, other)| product / (labels[at] * other));
                let scaled: Vec<f64> = scaled.collect();
                row.ghost = scaled[..own].iter().map(|product| *product as f32).collect();
                row.ghost_validation = scaled[own..].iter().sum::<f64>() / (count - own).max(1) as f64;
            }
        }
        for (row, (norm, sketch)) in rows.iter_mut().zip(self.hidden) {
            (row.nuclear_norm, row.sketch) = (norm, sketch);
        }
    }
}

fn roots<'a>(squares: impl Iterator<Item = &'a f64>) -> Vec<f64> {
    squares.map(|square| square.max(0.0).sqrt()).collect()
}

fn norm(params: &Params, grads: &Grads) -> f64 {
    params.iter().filter_map(|(id, _)| grads.get(id)).map(sum_of_squares).sum::<f64>().sqrt()
}
