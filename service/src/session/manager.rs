//! All sessions of a server: made, found, resumed after a restart, removed.

use super::look::Looks;
use super::one::{Session, now};
use crate::store::{Record, Store, Table};
use crate::wire::SessionSpec;
use curate_api::serving::Corpus;
use curate_api::{Cancel, Error, Host, Progress, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What sessions share.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    /// Folder of the copied rows.
    pub(crate) corpora: PathBuf,
    pub(crate) host: Host,
    pub(super) looks: Looks,
    known: Mutex<HashMap<String, Weak<Corpus>>>,
    read_only: AtomicBool,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn Store>, corpora: PathBuf, host: Host) -> Arc<Self> {
        Arc::new(Self {
            store,
            corpora,
            host,
            looks: Looks::default(),
            known: Mutex::default(),
            read_only: AtomicBool::new(false),
        })
    }

    /// Whether the store could take nothing in the last time.
    pub(crate) fn read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    pub(super) fn wrote<T>(&self, done: Result<T>) -> Result<T> {
        self.read_only.store(done.as_ref().is_err_and(|e| e.code() == "store/full"), Ordering::Relaxed);
        done
    }

    /// The machine's side of work that reports here.
    pub(crate) fn host(&self, progress: &Progress) -> Host {
        Host { progress: progress.clone(), cancel: Cancel::default(), ..self.host.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<Corpus>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows that a session had before the server was started again.
    pub(super) fn corpus_of(&self, session: &str) -> Result<Option<Arc<Corpus>>> {
        let Some(record) = self.store.get(Table::Sessions, session)? else { return Ok(None) };
        let Some(key) = record.state["corpus"].as_str() else { return Ok(None) };
        if let Some(shared) = self.lock().get(key).and_then(Weak::upgrade) {
            return Ok(Some(shared));
        }
        // Rows that are gone are copied again, and come out the same where the input did not change.
        let Ok(found) = Corpus::open(&self.corpora, key) else { return Ok(None) };
        Ok(Some(self.share(Arc::new(found))))
    }

    fn share(&self, corpus: Arc<Corpus>) -> Arc<Corpus> {
        let mut known = self.lock();
        known.retain(|_, corpus| corpus.strong_count() > 0);
        if let Some(first) = known.get(&corpus.key).and_then(Weak::upgrade) {
            return first;
        }
        known.insert(corpus.key.clone(), Arc::downgrade(&corpus));
        corpus
    }

    /// Keep the name of a session's rows.
    ///
    /// # Errors
    /// `session/changed` when its rows were others before.
    pub(super) fn remember(&self, session: &str, corpus: Arc<Corpus>) -> Result<Arc<Corpus>> {
        let record = self.store.get(Table::Sessions, session)?;
        let before = record.and_then(|record| record.state["corpus"].as_str().map(str::to_owned));
        if before.is_some_and(|before| before != corpus.key) {
            return Err(Error::data("session/changed", "the input of the session is not what it was")
                .hint("bring the old files back, or begin another session"));
        }
        self.store.set_state(Table::Sessions, session, None, &json!({"corpus": corpus.key}))?;
        Ok(self.share(corpus))
    }
}

/// The sessions.
pub(crate) struct Sessions {
    shared: Arc<Shared>,
    most: usize,
    open: Mutex<BTreeMap<String, Arc<Session>>>,
}

impl Sessions {
    pub(crate) fn new(shared: Arc<Shared>, most: usize) -> Self {
        Self { shared, most, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Make a session, or find it where one was made with the same words; with whether it is new. One that failed is tried again, and
    /// gives way to other words where nothing was drawn from it.
    ///
    /// # Errors
    /// `session/exists` for another one of that name, `session/limit`, `session/id`, `store/*`; of a plan that does not fit,
    /// `method/*` and `params/*`.
    pub(crate) fn create(&self, mut spec: SessionSpec) -> Result<(Arc<Session>, bool)> {
        check(&spec)?;
        let id = spec.id.clone().unwrap_or_else(|| drawn_id("s"));
        check_id(&id)?;
        spec.id = Some(id.clone());
        let value = json(&spec)?;
        let known = self.shared.store.get(Table::Sessions, &id)?;
        if known.as_ref().is_some_and(|known| known.spec == value) {
            return Ok((self.again(&id)?, false));
        }
        if known.is_some() && !self.gives_way(&id)? {
            return Err(exists(&id));
        }
        spec.plan.check_names()?;
        if known.is_some() {
            self.remove(&id)?;
        }
        if self.shared.store.list(Table::Sessions)?.len() >= self.most {
            return Err(Error::usage("session/limit", format!("there are {} sessions already", self.most))
                .hint("delete one that is done, or start the server with a higher --max-sessions"));
        }
        let record = Record { id: id.clone(), spec: value.clone(), state: json!({}), created: now() };
        if !self.shared.store.create(Table::Sessions, &record)? {
            let same = self.shared.store.get(Table::Sessions, &id)?.is_some_and(|known| known.spec == value);
            return if same { Ok((self.get(&id)?, false)) } else { Err(exists(&id)) };
        }
        Ok((self.begin(record)?, true))
    }

    /// A session by name; made ready once more where that failed.
    fn again(&self, id: &str) -> Result<Arc<Session>> {
        let known = self.get(id)?;
        if !known.has_failed() {
            return Ok(known);
        }
        self.lock().remove(id);
        self.get(id)
    }

    /// Whether a session failed before anything was drawn from it.
    fn gives_way(&self, id: &str) -> Result<bool> {
        Ok(self.get(id)?.has_failed() && self.shared.store.last(id)? == 0)
    }

    /// Take a session into memory and make it ready on a thread of its own.
    fn begin(&self, record: Record) -> Result<Arc<Session>> {
        let spec: SessionSpec = serde_json::from_value(record.spec)
            .map_err(|e| Error::data("session/broken", format!("the session as stored cannot be read: {e}")))?;
        let mut open = self.lock();
        if let Some(known) = open.get(&record.id) {
            return Ok(known.clone());
        }
        let session = Session::new(record.id.clone(), record.created, spec, self.shared.clone());
        let working = session.clone();
        std::thread::Builder::new()
            .name(format!("open {}", record.id))
            .spawn(move || working.open())
            .map_err(Error::from)?;
        open.insert(record.id, session.clone());
        Ok(session)
    }

    /// A session by name; after a restart it is made ready on first use.
    ///
    /// # Errors
    /// `session/unknown`, `store/*`.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Session>> {
        let known = self.lock().get(id).cloned();
        if let Some(known) = known {
            let shared = self.shared.store.name() != "sqlite";
            if !shared || self.shared.store.get(Table::Sessions, id)?.is_some() {
                return Ok(known);
            }
            self.lock().remove(id);
        }
        let record = self.shared.store.get(Table::Sessions, id)?;
        record.map_or_else(|| Err(unknown(id)), |record| self.begin(record))
    }

    /// All sessions, oldest first.
    ///
    /// # Errors
    /// `store/*`.
    pub(crate) fn list(&self) -> Result<Vec<Arc<Session>>> {
        self.shared.store.list(Table::Sessions)?.into_iter().map(|record| self.begin(record)).collect()
    }

    /// Remove a session with its journal; its rows go when no other session has them.
    ///
    /// # Errors
    /// `session/unknown`, `store/*`.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        let key = self
            .shared
            .store
            .get(Table::Sessions, id)?
            .and_then(|record| record.state["corpus"].as_str().map(str::to_owned));
        if !self.shared.store.remove(Table::Sessions, id)? {
            return Err(unknown(id));
        }
        if let Some(session) = self.lock().remove(id) {
            session.tell("ended", 0, Value::Null);
        }
        let others = self.shared.store.list(Table::Sessions)?;
        if let Some(key) = key.filter(|key| others.iter().all(|other| other.state["corpus"] != json!(key))) {
            // Rows left behind cost space, nothing else.
            let _ = std::fs::remove_dir_all(self.shared.corpora.join(key));
        }
        Ok(())
    }
}

fn json(spec: &SessionSpec) -> Result<Value> {
    serde_json::to_value(spec).map_err(|e| Error::io("json", e.to_string()))
}

/// What a schema cannot say of a session.
fn check(spec: &SessionSpec) -> Result<()> {
    let wrong = |what: &str, hint: &str| Err(Error::usage("session/spec", what).hint(hint));
    match (&spec.plan.select, &spec.plan.online) {
        (None, None) => wrong("the plan says neither what to choose nor how", "add plan.select or plan.online"),
        (Some(_), Some(_)) => wrong("the plan has both 'select' and 'online'", "leave one of them out"),
        _ if spec.batch == 0 || spec.ranks == 0 => {
            wrong("'batch' and 'ranks' are at least 1", "leave them out, or raise them")
        }
        _ if spec.batch.saturating_mul(spec.ranks as usize) > 1 << 20 => {
            wrong("a step has too many rows", "lower 'batch'")
        }
        _ if spec.lag > 1024 => wrong("'lag' is at most 1024", "lower it"),
        _ if spec.epochs == Some(0) => wrong("'epochs' is at least 1", "leave it out for a stream without end"),
        _ if spec.candidates == Some(0) => wrong("'candidates' is at least 1", "leave it out"),
        (_, Some(online)) if online.rounds.is_some() || online.restart => wrong(
            "rounds belong to the bundled trainer",
            "leave out 'rounds' and 'restart': every step of a session is a round",
        ),
        _ => Ok(()),
    }
}

/// Names that can stand in a path.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=64).contains(&id.len()) && id.chars().all(plain) && !id.starts_with('.') {
        return Ok(());
    }
    Err(Error::usage("id/invalid", format!("'{}' cannot be a name", id.chars().take(80).collect::<String>()))
        .hint("1 to 64 letters, digits, '.', '_' or '-', not beginning with '.'"))
}

/// A name that nobody has.
pub(crate) fn drawn_id(prefix: &str) -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let seed = format!("{} {} {count}", now().to_bits(), std::process::id());
    format!("{prefix}-{}", &blake3::hash(seed.as_bytes()).to_hex()[..12])
}

fn unknown(id: &str) -> Error {
    Error::usage("session/unknown", format!("there is no session '{id}'")).hint("GET /v1/sessions lists them")
}

fn exists(id: &str) -> Error {
    Error::usage("session/exists", format!("there is another session '{id}'"))
        .hint("take another name, delete it, or send exactly what it was created with to attach to it")
}
