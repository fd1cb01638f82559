//! Drawing: the same draws in any company, and probabilities that training agrees with.

use super::model;
use curate_core::{Ctx, Rng};
use curate_trainer::model::{Draws, Generator, Sample};
use curate_trainer::{Batch, IGNORE, Sequence};

const STOP: [u32; 1] = [12];

fn prompts() -> Vec<Vec<u32>> {
    (0..9u32).map(|i| (0..=i % 4).map(|at| (5 * i + 3 * at) % 12).collect()).collect()
}

/// Draws named by the first token of the prompt, its length and the copy.
fn draw(prompts: &[Vec<u32>], copies: usize, temperature: f32) -> Vec<Sample> {
    let (model, ctx) = (model(3), Ctx::new(5));
    let rng = |prompt: usize, copy: usize| -> Rng {
        let name: Vec<String> = prompts[prompt].iter().map(u32::to_string).collect();
        ctx.rng(&name.join(" "), copy as u64)
    };
    let draws = Draws { copies, max_new: 6, stop: &STOP, rng: &rng };
    Generator::new(&model).temperature(temperature).sample(prompts, &draws, &ctx).unwrap()
}

/// The same tokens; probabilities to the last bits, which the size of a product decides.
fn same(a: &Sample, b: &Sample) {
    assert_eq!((&a.tokens, a.finished), (&b.tokens, b.finished));
    assert!(a.log_probs.iter().zip(&b.log_probs).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn draws_do_not_depend_on_company_or_threads() {
    let together = draw(&prompts(), 3, 1.0);
    assert_eq!(together.len(), 27);
    let alone: Vec<Sample> = prompts().iter().flat_map(|prompt| draw(std::slice::from_ref(prompt), 3, 1.0)).collect();
    alone.iter().zip(&together).for_each(|(a, b)| same(a, b));
    let fewer = draw(&prompts(), 1, 1.0);
    fewer.iter().zip(together.chunks(3)).for_each(|(one, three)| same(one, &three[0]));
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| draw(&prompts(), 3, 1.0)), together);
    }
    assert!(together.iter().any(|s| s.finished) && together.iter().any(|s| !s.finished && s.tokens.len() == 6));
    assert!(together.iter().all(|s| !s.answer().contains(&12) && s.tokens.len() == s.log_probs.len()));
}

#[test]
fn a_draw_is_as_likely_as_training_says() {
    for temperature in [1.0, 0.7] {
        let samples = draw(&prompts(), 4, temperature);
        let prompts = prompts();
        let sequence = |(at, sample): (usize, &Sample)| {
            let prompt = &prompts[at / 4];
            let tokens: Vec<u32> = prompt.iter().chain(&sample.tokens).copied().collect();
            let labels = prompt.iter().map(|_| IGNORE).chain(sample.tokens.iter().copied()).collect();
            Sequence { row: at as u64, tokens, labels, weight: 1.0 }
        };
        let batch = Batch::of(&samples.iter().enumerate().map(sequence).collect::<Vec<_>>());
        let losses = model(3).policy_losses(&batch, temperature, &Ctx::new(0)).unwrap();
        for (sample, segment) in samples.iter().zip(&batch.segments) {
            let nll = &losses.token_nll[segment.end - sample.tokens.len()..segment.end];
            let gap = nll.iter().zip(&sample.log_probs).map(|(n, l)| (n + l).abs()).fold(0.0, f32::max);
            assert!(gap < 1e-5, "{gap}");
        }
    }
}
