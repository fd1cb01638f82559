//! Jobs: plans that run on the server, one after another, and start again after it died.

use crate::problem::Problem;
use crate::session::Shared;
use crate::store::{Record, Table};
use crate::wire::{JobBody, JobInfo, ProgressInfo};
use curate_api::{Cancel, Error, Host, Plan, Progress, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A job.
pub(crate) struct Job {
    id: String,
    created: f64,
    plan: Value,
    state: Mutex<Value>,
    progress: Progress,
    cancel: Cancel,
    folder: PathBuf,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, Value> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> String {
        self.lock()["status"].as_str().unwrap_or("queued").to_owned()
    }

    /// A file of this name in the job's folder.
    fn within(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// The job at a glance.
    pub(crate) fn info(&self) -> JobInfo {
        let state = self.lock().clone();
        let status = state["status"].as_str().unwrap_or("queued").to_owned();
        let progress = (status == "running").then(|| ProgressInfo::from(&self.progress.snapshot()));
        let some = |name: &str| Some(state[name].clone()).filter(|value| !value.is_null());
        JobInfo {
            id: self.id.clone(),
            created: self.created,
            started: state["started"].as_f64(),
            finished: state["finished"].as_f64(),
            progress,
            error: some("error"),
            result: some("result"),
            plan: self.plan.clone(),
            status,
        }
    }

    /// The file it gave.
    ///
    /// # Errors
    /// `job/no-result` before it is done, or where it gave none.
    pub(crate) fn result(&self) -> Result<PathBuf> {
        let state = self.lock().clone();
        let name = state["result"]["path"].as_str().filter(|_| state["status"] == "done");
        let path = name.map(|name| self.folder.join(name)).filter(|path| path.is_file());
        path.ok_or_else(|| Error::usage("job/no-result", "the job has no file to fetch").hint("wait until it is done"))
    }
}

/// The jobs of a server.
pub(crate) struct Jobs {
    shared: Arc<Shared>,
    base: PathBuf,
    most: usize,
    known: Mutex<BTreeMap<String, Arc<Job>>>,
    queue: Mutex<Sender<Arc<Job>>>,
}

impl Jobs {
    /// The jobs as the store has them; those that were not finished are queued again.
    ///
    /// # Errors
    /// `store/*`, or when no thread can be had.
    pub(crate) fn open(shared: Arc<Shared>, base: PathBuf, most: usize) -> Result<Self> {
        let (sender, receiver) = channel::<Arc<Job>>();
        let working = shared.clone();
        let work = move || receiver.iter().for_each(|job| run(&job, &working));
        std::thread::Builder::new().name("jobs".into()).spawn(work).map_err(Error::from)?;
        let jobs = Self { shared, base, most, known: Mutex::default(), queue: Mutex::new(sender) };
        for record in jobs.shared.store.list(Table::Jobs)? {
            let job = jobs.enter(record);
            if ["queued", "running"].contains(&job.status().as_str()) {
                jobs.enqueue(&job);
            }
        }
        Ok(jobs)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Job>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, record: Record) -> Arc<Job> {
        let job = Arc::new(Job {
            folder: self.base.join(&record.id),
            id: record.id,
            created: record.created,
            plan: record.spec,
            state: Mutex::new(record.state),
            progress: Progress::root("run"),
            cancel: Cancel::default(),
        });
        self.lock().entry(job.id.clone()).or_insert(job).clone()
    }

    fn enqueue(&self, job: &Arc<Job>) {
        // The worker lives as long as the sender.
        let _ = self.queue.lock().unwrap_or_else(PoisonError::into_inner).send(job.clone());
    }

    /// Take a job, or find it where one was made with the same words; with whether it is new. One that failed gives way to other words.
    ///
    /// # Errors
    /// `job/*`, `output/*`, `store/*`; of a plan that does not fit, `method/*` and `params/*`.
    pub(crate) fn create(&self, asked: JobBody) -> Result<(Arc<Job>, bool)> {
        check(&asked.plan)?;
        let id = asked.id.unwrap_or_else(|| crate::session::drawn_id("j"));
        crate::session::check_id(&id)?;
        let spec = serde_json::to_value(&asked.plan).map_err(|e| Error::io("json", e.to_string()))?;
        let record =
            Record { id: id.clone(), spec, state: json!({"status": "queued"}), created: crate::session::now() };
        self.make_way(&record)?;
        if self.shared.store.list(Table::Jobs)?.len() >= self.most {
            return Err(Error::usage("session/limit", format!("there are {} jobs already", self.most))
                .hint("delete some that ended"));
        }
        if self.shared.store.create(Table::Jobs, &record)? {
            let job = self.enter(record);
            self.enqueue(&job);
            return Ok((job, true));
        }
        let known = self.shared.store.get(Table::Jobs, &id)?.filter(|known| known.spec == record.spec);
        known
            .map(|known| (self.enter(known), false))
            .ok_or_else(|| Error::usage("job/exists", format!("there is another job '{id}'")).hint("take another name"))
    }

    /// Remove a job of this name that failed with another plan.
    fn make_way(&self, record: &Record) -> Result<()> {
        let known = self.shared.store.get(Table::Jobs, &record.id)?.filter(|known| known.spec != record.spec);
        let failed =
            known.is_some_and(|known| ["failed", "cancelled"].map(Some).contains(&known.state["status"].as_str()));
        if failed { self.remove(&record.id) } else { Ok(()) }
    }

    /// A job by name.
    ///
    /// # Errors
    /// `job/unknown`, `store/*`.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Job>> {
        if let Some(job) = self.lock().get(id) {
            return Ok(job.clone());
        }
        let record = self.shared.store.get(Table::Jobs, id)?;
        let unknown = || Error::usage("job/unknown", format!("there is no job '{id}'")).hint("GET /v1/jobs lists them");
        Ok(self.enter(record.ok_or_else(unknown)?))
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// `store/*`.
    pub(crate) fn list(&self) -> Result<Vec<JobInfo>> {
        Ok(self.shared.store.list(Table::Jobs)?.into_iter().map(|record| self.enter(record).info()).collect())
    }

    /// Cancel a job that runs; remove one that ended.
    ///
    /// # Errors
    /// `job/unknown`, `store/*`.
    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        let job = self.get(id)?;
        match job.status().as_str() {
            "running" | "queued" => {
                job.cancel.cancel();
                if job.status() == "queued" {
                    end(&job, &self.shared, json!({"status": "cancelled", "finished": crate::session::now()}));
                }
            }
            _ => {
                self.shared.store.remove(Table::Jobs, id)?;
                self.lock().remove(id);
                // What is left behind costs space, nothing else.
                let _ = std::fs::remove_dir_all(&job.folder);
            }
        }
        Ok(())
    }
}

/// What a job's plan may be.
fn check(plan: &Plan) -> Result<()> {
    let path = &plan.output.path;
    let wrong = |code: &'static str, what: &str, hint: &str| Err(Error::usage(code, what).hint(hint));
    if plan.select.is_none() && plan.online.is_none() && plan.train.is_none() {
        return wrong("plan/no-select", "the plan has nothing to do", "add plan.select with use and budget");
    }
    if plan.train.is_some() || plan.online.is_some() {
        return wrong(
            "job/kind",
            "a job chooses rows; training runs on the command line",
            "leave out 'train' and 'online'",
        );
    }
    let named = !path.contains(['/', '\\', ':']) && !path.starts_with('.') && path.len() <= 128;
    if !named {
        return wrong("output/place", "the output of a job is a plain file name", "such as picks.parquet");
    }
    if plan.output.report.as_ref().is_some_and(|report| report.contains(['/', '\\', ':']) || report.starts_with('.')) {
        return wrong("output/place", "the report of a job is a plain file name", "such as report.html");
    }
    plan.check_names()
}

/// Say where a job stands, to the store first.
fn end(job: &Job, shared: &Shared, state: Value) {
    // A store that cannot take it now has the job run again after a restart.
    let _ = shared.store.set_state(Table::Jobs, &job.id, None, &state);
    *job.lock() = state;
}

/// Run a job to its end.
fn run(job: &Job, shared: &Shared) {
    if job.status() == "cancelled" {
        return;
    }
    let started = crate::session::now();
    end(job, shared, json!({"status": "running", "started": started}));
    let done = work(job, shared);
    let finished = crate::session::now();
    let state = match done {
        Ok(result) => json!({"status": "done", "started": started, "finished": finished, "result": result}),
        Err(error) if error.code() == "cancelled" => {
            json!({"status": "cancelled", "started": started, "finished": finished})
        }
        Err(error) => {
            json!({"status": "failed", "started": started, "finished": finished, "error": Problem::from(&error)})
        }
    };
    end(job, shared, state);
}

fn work(job: &Job, shared: &Shared) -> Result<Value> {
    let mut plan: Plan = serde_json::from_value(job.plan.clone())
        .map_err(|e| Error::data("plan/invalid", format!("the plan as stored cannot be read: {e}")))?;
    std::fs::create_dir_all(&job.folder)?;
    let name = if plan.output.path.is_empty() { "picks.parquet".to_owned() } else { plan.output.path.clone() };
    plan.output.path = job.within(&name);
    plan.output.overwrite = true;
    plan.output.report = plan.output.report.map(|report| job.within(&report));
    let host = Host {
        progress: job.progress.clone(),
        cancel: job.cancel.clone(),
        scratch: job.folder.join("scratch"),
        ..shared.host.clone()
    };
    let manifest = curate_api::guarded(|| curate_api::select(&plan, &host)).ok_or_else(|| {
        Error::io("job/broke", "the job broke off").hint("this is a defect; the server's log has more")
    })??;
    // Spooled input is of no use any more.
    let _ = std::fs::remove_dir_all(job.folder.join("scratch"));
    let bytes = std::fs::metadata(Path::new(&plan.output.path)).map_or(0, |found| found.len());
    Ok(json!({"rows": manifest.counts.selected_rows, "path": name, "bytes": bytes, "manifest": manifest}))
}
