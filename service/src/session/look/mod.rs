//! What people look at: the corpus as a map, its clusters in words, who was drawn. Made when it is first asked for, on a thread of
//! its own, one session at a time; what trainers do never waits for it.

mod answers;
mod drawn;

use super::one::Session;
use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use curate_api::serving::{Corpus, Groups, Survey, survey};
use curate_api::{Column, Error, Progress, Result, State};
use drawn::Drawn;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sessions whose map is kept in memory.
const KEPT: usize = 16;

/// A map, or how far it is.
enum Made {
    Working,
    Done(Arc<Survey>),
    Failed(Error),
}

struct Entry {
    groups: Groups,
    made: Made,
    /// When it was asked for last, in calls.
    asked: u64,
}

#[derive(Default)]
struct Known {
    surveys: HashMap<String, Entry>,
    drawn: HashMap<String, Arc<Mutex<Drawn>>>,
    calls: u64,
}

/// The maps of all sessions.
#[derive(Default)]
pub(crate) struct Looks {
    known: Mutex<Known>,
    /// Held while a map is made.
    working: Mutex<()>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Looks {
    /// What is known of a session's corpus; `None` where it must be made, and then it counts as begun.
    fn known(&self, session: &str, groups: &Groups) -> Option<Result<Arc<Survey>>> {
        let mut known = held(&self.known);
        known.calls += 1;
        let asked = known.calls;
        if let Some(entry) = known.surveys.get_mut(session).filter(|entry| entry.groups == *groups) {
            entry.asked = asked;
            return Some(match &entry.made {
                Made::Working => Err(not_yet()),
                Made::Done(survey) => Ok(survey.clone()),
                Made::Failed(error) => Err(again(error)),
            });
        }
        known.surveys.insert(session.to_owned(), Entry { groups: groups.clone(), made: Made::Working, asked });
        if known.surveys.len() > KEPT {
            let oldest = known.surveys.iter().min_by_key(|(_, entry)| entry.asked).map(|(id, _)| id.clone());
            oldest.into_iter().for_each(|id| {
                known.surveys.remove(&id);
                known.drawn.remove(&id);
            });
        }
        None
    }

    /// Keep what came of it, unless other groups were asked for meanwhile.
    fn keep(&self, session: &str, groups: &Groups, found: Result<Survey>) {
        let made = found.map_or_else(Made::Failed, |survey| Made::Done(Arc::new(survey)));
        if let Some(entry) = held(&self.known).surveys.get_mut(session).filter(|entry| entry.groups == *groups) {
            entry.made = made;
        }
    }

    /// A map that is there; none is begun.
    fn ready(&self, session: &str) -> Option<Arc<Survey>> {
        match &held(&self.known).surveys.get(session)?.made {
            Made::Done(survey) => Some(survey.clone()),
            _ => None,
        }
    }

    fn drawn(&self, session: &str) -> Arc<Mutex<Drawn>> {
        held(&self.known).drawn.entry(session.to_owned()).or_default().clone()
    }
}

impl Session {
    /// The corpus at a glance; the first call begins to make it.
    ///
    /// # Errors
    /// `map/not-yet` until it is made, `map/none` where there are no rows; what making it gave.
    fn survey(self: &Arc<Self>) -> Result<(Arc<Corpus>, Arc<Survey>)> {
        let (corpus, groups) = self.with(|ready| {
            let groups = ready.machine.method().map_or(Groups::Own, |method| groups_of(&method.state()));
            Ok((ready.ground.corpus.clone(), groups))
        })?;
        let corpus = corpus.ok_or_else(|| {
            Error::usage("map/none", "the session has no rows of its own to look at").hint("give the plan an input")
        })?;
        if let Some(found) = self.shared.looks.known(&self.look_name(), &groups) {
            return Ok((corpus, found?));
        }
        let (own, rows) = (self.clone(), corpus.clone());
        let work = move || {
            let looks = &own.shared.looks;
            let alone = held(&looks.working);
            let found = survey(&own.spec.plan, &rows, &groups, &own.shared.host(&Progress::root("look")));
            drop(alone);
            looks.keep(&own.look_name(), &groups, found);
        };
        std::thread::Builder::new().name(format!("look {}", self.id)).spawn(work).map_err(Error::from)?;
        Err(not_yet())
    }

    /// Names what is known of this session's corpus: another one may take its id once it is removed.
    fn look_name(&self) -> String {
        format!("{}@{}", self.id, self.created)
    }

    /// Who was drawn, as the journal has it.
    fn drawn(&self) -> Result<Arc<Mutex<Drawn>>> {
        let drawn = self.shared.looks.drawn(&self.look_name());
        held(&drawn).read_on(self.shared.store.as_ref(), &self.id)?;
        Ok(drawn)
    }
}

/// The error once more, for another caller.
fn again(error: &Error) -> Error {
    let same = Error::data(error.code(), error.to_string());
    match error.hint_text() {
        Some(hint) => same.hint(hint),
        None => same,
    }
}

fn not_yet() -> Error {
    Error::usage("map/not-yet", "the map of the rows is being made").hint("send the same call again")
}

/// The clusters of a method: by its centres, or by a column where it has clusters and no centres.
fn groups_of(state: &State) -> Groups {
    let table = |wanted: &str| state.tables.iter().find(|(name, _)| name == wanted).map(|(_, table)| table);
    let centres = table("centroids").and_then(|table| table.column_by_name("centroid")).and_then(|column| {
        let rows = column.as_fixed_size_list_opt()?;
        let values = rows.values().as_primitive_opt::<Float32Type>()?;
        Some((values.values().to_vec(), usize::try_from(rows.value_length()).ok()?))
    });
    match (centres, table("clusters")) {
        (Some((values, dim)), _) => Groups::Centres(values, dim),
        (None, Some(clusters)) if clusters.num_rows() > 0 => Groups::Column(Column::CLUSTER),
        _ => Groups::Own,
    }
}
