//! The contract of an online selector where nothing is wrong.

use super::stream::{Method, candidates, chunked, each, feedback, ids, steps, through_files, with_threads, written};
use curate_core::{Ctx, Selection};
use std::collections::BTreeSet;

fn check(name: &str, chosen: &Selection, ids: &[u64], k: usize) {
    let picked: BTreeSet<u64> = chosen.rows().into_iter().collect();
    let offered: BTreeSet<u64> = ids.iter().copied().collect();
    let wanted = if name.starts_with("full-batch") { ids.len() } else { k.min(ids.len()) };
    assert_eq!(chosen.picks.len(), wanted, "{name}: min(k, B) rows");
    assert_eq!(picked.len(), wanted, "{name}: no row twice");
    assert!(picked.is_subset(&offered), "{name}: candidates only");
    for pick in &chosen.picks {
        assert!(
            pick.score.is_finite() && pick.weight.to_bits() == 1f32.to_bits() && !pick.reason.is_empty(),
            "{name}: {pick:?}"
        );
    }
    let told = chosen.assessment.as_ref().unwrap();
    assert_eq!((told.row.as_slice(), told.score.len()), (ids, ids.len()), "{name}: every candidate is assessed");
    assert!(told.score.iter().all(|s| s.is_finite()), "{name}");
    chosen.to_batch().unwrap();
}

#[test]
fn batches_are_filled_without_repeats() {
    each(|name, build| {
        let mut run = build();
        for (step, chosen) in steps(&mut run, 0..4, 1).iter().enumerate() {
            check(name, chosen, &ids(step as u64, 24), 5);
        }
    });
}

#[test]
fn small_batches_are_no_trouble() {
    each(|name, build| {
        for (count, k) in [(1, 1), (1, 7), (3, 8), (6, 6)] {
            let (mut run, ids) = (build(), ids(0, count));
            let chosen = run.propose(&chunked(&candidates(&ids), 1), k, &Ctx::new(3)).unwrap();
            check(name, &chosen, &ids, k);
            run.observe(&feedback(0, &chosen.rows()), &Ctx::new(3)).unwrap();
            run.observe(&feedback(1, &[]), &Ctx::new(3)).unwrap();
        }
    });
}

#[test]
fn threads_and_chunks_do_not_matter() {
    let run = |mut run: Method, chunks| (steps(&mut run, 0..4, chunks), written(&run.state()));
    each(|name, build| {
        let one = {
            let method = build();
            with_threads(1, || run(method, 1))
        };
        for chunks in [3, 24] {
            let method = build();
            assert_eq!(one, with_threads(4, || run(method, chunks)), "{name}: 4 threads, {chunks} chunks");
        }
    });
}

#[test]
fn a_run_goes_on_from_its_state_as_if_nothing_had_happened() {
    each(|name, build| {
        let mut straight = build();
        steps(&mut straight, 0..3, 1);
        let saved = through_files(straight.state());
        let mut resumed = build();
        steps(&mut resumed, 7..8, 1);
        resumed.restore(saved).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(written(&resumed.state()), written(&straight.state()), "{name}: the state itself");
        assert_eq!(steps(&mut resumed, 3..6, 2), steps(&mut straight, 3..6, 1), "{name}: what follows");
        assert_eq!(written(&resumed.state()), written(&straight.state()), "{name}: the state after it");
    });
}

#[test]
fn a_proposal_is_repeated_from_state_and_seed() {
    each(|name, build| {
        let mut run = build();
        steps(&mut run, 0..2, 1);
        let (state, pool) = (run.state(), chunked(&candidates(&ids(2, 24)), 1));
        let first = run.propose(&pool, 5, &Ctx::new(17)).unwrap();
        run.restore(state).unwrap();
        assert_eq!(run.propose(&pool, 5, &Ctx::new(17)).unwrap(), first, "{name}");
    });
}

/// Where a method says that the next batch may be proposed early, feedback changes nothing.
#[test]
fn prefetching_is_allowed_only_where_feedback_does_not_matter() {
    each(|name, build| {
        let (mut early, mut late) = (build(), build());
        if early.may_prefetch() {
            assert_eq!(early.needs().after, [], "{name}");
            assert!(early.needs().before.iter().all(|c| !c.as_str().starts_with("signal.")), "{name}");
            let pool = |step| chunked(&candidates(&ids(step, 24)), 1);
            let ctx = Ctx::new(17);
            let ahead = [0, 1].map(|step| early.propose(&pool(step), 5, &ctx).unwrap());
            assert_eq!(ahead.to_vec(), steps(&mut late, 0..2, 1), "{name}");
        }
    });
}

#[test]
fn chance_differs_from_proposal_to_proposal() {
    for name in ["random-k", "mopps"] {
        let mut run = super::stream::method(name, &serde_json::json!({}));
        let pool = chunked(&candidates(&ids(0, 24)), 1);
        let rows = |run: &mut Method, seed| run.propose(&pool, 5, &Ctx::new(seed)).unwrap().rows();
        let (first, second) = (rows(&mut run, 17), rows(&mut run, 17));
        assert_ne!(first, second, "{name}");
    }
}
