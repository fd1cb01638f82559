//! Who was drawn when, read from the journal as it grows.

use crate::store::{Event, Kind, Store};
use curate_api::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Events read at a time.
const PAGE: usize = 512;

/// Steps whose rows are remembered one by one.
const STEPS: usize = 20_000;

/// Rows drawn, and what was done by hand.
#[derive(Default)]
pub(super) struct Drawn {
    last: u64,
    /// First step that drew a row.
    rows: HashMap<u64, u64>,
    /// Rows of the last steps.
    steps: BTreeMap<u64, Vec<u64>>,
    steers: Vec<(u64, Value)>,
}

impl Drawn {
    /// Take in what the journal has beyond what is known.
    pub(super) fn read_on(&mut self, store: &dyn Store, session: &str) -> Result<()> {
        loop {
            let page = store.events(session, self.last, PAGE)?;
            let Some((number, _)) = page.last() else { return Ok(()) };
            self.last = *number;
            page.iter().for_each(|(_, event)| self.take(event));
        }
    }

    fn take(&mut self, event: &Event) {
        let step = event.step;
        match event.kind {
            Kind::Propose => {
                let picks = event.head["picks"].as_array().map_or(&[][..], Vec::as_slice);
                let rows: Vec<u64> = picks.iter().filter_map(|pick| pick[0].as_u64()).collect();
                rows.iter().for_each(|row| {
                    self.rows.entry(*row).or_insert(step);
                });
                self.steps.insert(step, rows);
                if self.steps.len() > STEPS {
                    self.steps.pop_first();
                }
            }
            Kind::Seek => {
                self.rows.retain(|_, first| *first <= step);
                self.steps.retain(|own, _| *own <= step);
                self.steers.retain(|own| own.0 <= step);
            }
            Kind::Steer => {
                let told =
                    json!({"step": step, "group": event.head["group"], "factor": event.head["factor"], "at": event.at});
                self.steers.push((step, told));
            }
            Kind::Feedback | Kind::Pause | Kind::Resume => {}
        }
    }

    /// Whether a row was drawn.
    pub(super) fn has(&self, row: u64) -> bool {
        self.rows.contains_key(&row)
    }

    /// Step that drew a row first.
    pub(super) fn first(&self, row: u64) -> Option<u64> {
        self.rows.get(&row).copied()
    }

    /// Rows of a step, if it is remembered.
    pub(super) fn of_step(&self, step: u64) -> Option<&[u64]> {
        self.steps.get(&step).map(Vec::as_slice)
    }

    /// Weights changed by hand, oldest first.
    pub(super) fn steers(&self) -> Vec<Value> {
        self.steers.iter().map(|own| own.1.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, step: u64, head: Value) -> Event {
        Event { kind, step, head, ..Event::default() }
    }

    #[test]
    fn a_seek_undoes_what_was_drawn_and_done_later() {
        let mut drawn = Drawn::default();
        drawn.take(&event(Kind::Propose, 1, json!({"picks": [[7, 0.5], [8, 0.5]]})));
        drawn.take(&event(Kind::Steer, 1, json!({"group": 2, "factor": 3.0})));
        drawn.take(&event(Kind::Propose, 2, json!({"picks": [[7, 0.5], [9, 0.5]]})));
        drawn.take(&event(Kind::Steer, 2, json!({"group": 2, "factor": 0.5})));
        assert_eq!((drawn.first(7), drawn.has(9), drawn.steers().len()), (Some(1), true, 2));
        drawn.take(&event(Kind::Seek, 1, json!({})));
        assert_eq!((drawn.has(7), drawn.has(9), drawn.of_step(2)), (true, false, None));
        assert_eq!(drawn.steers()[0]["factor"], 3.0);
        assert_eq!(drawn.steers().len(), 1);
    }
}
