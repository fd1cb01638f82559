//! Making a session ready: its rows, its method, and the calls of its journal done again.

use super::keeping::Keeping;
use super::machine::{Ground, Machine, Step};
use super::one::{Session, machine};
use super::served::Served;
use super::signals::Fed;
use crate::store::{Event, Kind};
use curate_api::serving::{Candidates, Corpus, RowRenderer, candidates, prepare_corpus};
use curate_api::{Column, Error, Location, Pool, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events read at a time.
const PAGE: usize = 4096;

/// A session that can work.
pub(crate) struct Ready {
    pub(super) ground: Ground,
    pub(super) machine: Machine,
    pub(super) renderer: Option<RowRenderer>,
    pub(super) method_name: String,
    /// Number of the last event known.
    pub(super) last: u64,
    /// Last step handed out; the machine may be one step ahead of it.
    pub(super) given: u64,
    /// The step that was made ahead.
    pub(super) ahead: Option<Step>,
    /// Batches ready to be sent.
    pub(super) rendered: BTreeMap<(u64, u32), Arc<Served>>,
    /// The machine may know less, or more, than the journal.
    pub(super) stale: bool,
    pub(super) keeping: Keeping,
    /// Whether a step was handed out since the machine was last looked at for keeping.
    pub(super) snapshot_due: bool,
    pub(super) first_chain: String,
}

/// Prepare the rows and the method, and do the journal again.
pub(super) fn load(session: &Session) -> Result<Ready> {
    let (spec, shared) = (&session.spec, &session.shared);
    let host = shared.host(&session.progress);
    let corpus = if spec.plan.input.paths.is_empty() { None } else { Some(corpus(session, &host)?) };
    let ctx = host.ctx(spec.plan.seed)?;
    let ground = Ground { spec: spec.clone(), corpus, candidates: None, ctx };
    let mut machine = machine(&ground)?;
    let wanted = machine.method().map(|method| method.needs().before);
    let found = match (&ground.corpus, wanted) {
        (Some(corpus), Some(needs)) => Some(Arc::new(candidates(&spec.plan, corpus, &needs, &host)?)),
        _ => None,
    };
    let ground = Ground { candidates: found, ..ground };
    if ground.corpus.is_none() && machine.method().is_none() {
        return Err(Error::usage("input/missing", "the plan names no input, and its method needs one")
            .hint("add plan.input.paths, or take a method that chooses among candidates the trainer brings"));
    }
    machine = super::one::machine(&ground)?;
    check_ranks(&machine, spec.ranks)?;
    let place = (spec.tokenizer.as_deref(), spec.max_length);
    let open = |corpus: &Arc<Corpus>| RowRenderer::open(spec.render, &spec.columns, place, corpus, &host);
    let renderer = ground.corpus.as_ref().map(open).transpose()?;
    let name =
        spec.plan.online.as_ref().map(|o| o.name.clone()).or_else(|| spec.plan.select.as_ref().map(|s| s.name.clone()));
    let mut ready = Ready {
        first_chain: machine.chain().to_owned(),
        ground,
        machine,
        renderer,
        method_name: name.unwrap_or_default(),
        last: 0,
        given: 0,
        ahead: None,
        rendered: BTreeMap::new(),
        stale: false,
        keeping: Keeping::default(),
        snapshot_due: false,
    };
    ready.reload(session)?;
    Ok(ready)
}

fn check_ranks(machine: &Machine, ranks: u32) -> Result<()> {
    if machine.asks() && ranks > 1 {
        return Err(Error::usage("session/ranks", "candidates that trainers bring cannot be shared by several ranks")
            .hint("create one session for each rank, or gather the signals on one"));
    }
    Ok(())
}

/// The rows: shared with other sessions that ask for the same.
fn corpus(session: &Session, host: &curate_api::Host) -> Result<Arc<Corpus>> {
    let shared = &session.shared;
    if let Some(known) = shared.corpus_of(&session.id)? {
        return Ok(known);
    }
    let made = Arc::new(prepare_corpus(&session.spec.plan, &shared.corpora, host)?);
    shared.remember(&session.id, made)
}

impl Ready {
    /// Begin at the newest snapshot and do all later calls again.
    pub(super) fn reload(&mut self, session: &Session) -> Result<()> {
        let store = &session.shared.store;
        let snapshot = store.snapshot(&session.id, u64::MAX)?;
        let after = snapshot.as_ref().map_or(0, |snapshot| snapshot.after);
        let (mut living, mut last): (Vec<Event>, u64) = (Vec::new(), after);
        loop {
            let page = store.events(&session.id, last, PAGE)?;
            let Some((number, _)) = page.last() else { break };
            last = *number;
            for (_, event) in page {
                if event.kind == Kind::Seek {
                    living.retain(|known| known.step <= event.step);
                } else {
                    living.push(event);
                }
            }
        }
        let mut machine = machine(&self.ground)?;
        self.keeping = Keeping::default();
        if let Some(snapshot) = &snapshot {
            machine.unpack(&snapshot.body)?;
            self.keeping.begin(snapshot.step, snapshot.body.len() as u64);
        }
        self.keeping.count(|| living.iter().try_for_each(|event| machine.apply(event)))?;
        (self.given, self.machine, self.last) = (machine.proposed, machine, last);
        (self.ahead, self.stale) = (None, false);
        self.rendered.clear();
        Ok(())
    }

    /// Name of the history up to the last step handed out.
    pub(super) fn chain(&self) -> &str {
        let before = || self.machine.open.get(&self.given).map_or(self.first_chain.as_str(), |step| &step.chain);
        if self.ahead.is_some() { before() } else { self.machine.chain() }
    }

    /// Candidates that a trainer brought, with the columns that the corpus has of them.
    pub(super) fn joined(&self, fed: &Fed) -> Result<Pool> {
        let mut order: Vec<usize> = (0..fed.rows.len()).collect();
        order.sort_by_key(|&at| fed.rows[at]);
        let pool = fed.pool()?;
        let Some(known) = &self.ground.candidates else { return Ok(pool) };
        let ids = known.pool.ids()?;
        let place = |row: &u64| {
            ids.binary_search(row).map_err(|_| {
                Error::usage("row/unknown", format!("there is no row {row}")).at(Location::default().row(*row))
            })
        };
        let ascending: Vec<u64> = order.iter().map(|&at| fed.rows[at]).collect();
        let mut joined = known.pool.filter(&ascending.iter().map(place).collect::<Result<Vec<_>>>()?)?;
        let indices: arrow::array::UInt32Array = order.iter().map(|&at| at as u32).collect();
        for (field, values) in fed.signals.schema().fields().iter().zip(fed.signals.columns()) {
            joined = joined.with(&Column::named(field.name()), arrow::compute::take(values, &indices, None)?)?;
        }
        Ok(joined)
    }

    /// Whether the feedback has what the method will ask for.
    pub(super) fn check_signals(&self, fed: &Fed) -> Result<()> {
        let Some(method) = self.machine.method().filter(|_| !fed.rows.is_empty()) else { return Ok(()) };
        let needs = method.needs().after;
        match needs.iter().find(|need| fed.signals.column_by_name(need.as_str()).is_none()) {
            None => Ok(()),
            Some(need) => {
                let name = need.as_str().trim_start_matches("signal.");
                Err(Error::usage("signal/missing", format!("the method wants '{name}' of every row"))
                    .hint(format!("send \"signals\": {{\"{name}\": [..]}}")))
            }
        }
    }

    /// The candidates of the next step, as the corpus offers them.
    pub(super) fn offered(&self, step: u64) -> Result<Vec<u64>> {
        let Some((_, pool)) = self.machine.offer(step)? else {
            return Err(Error::usage("candidates/none", "the session offers no candidates for this step")
                .hint("the trainer brings them, or the stream has ended"));
        };
        pool.ids()
    }

    pub(super) fn candidates(&self) -> Option<&Candidates> {
        self.ground.candidates.as_deref()
    }
}
