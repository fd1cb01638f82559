//! `curate doctor`: is this machine fit for the work, is what it computes right, and how fast is it?
//!
//! Libraries first, with what to install where one is missing; then every kernel and two small models against the processor and against
//! sums in double precision, each error beside its bound; then every workload beside a large product and a large copy, measured alike.
//! Without a GPU the processor is examined in the same way. Source: own work.

mod checks;
mod encoder;
mod figures;
mod language;
mod table;

use crate::host::{Host, devices};
use crate::{Error, Result};
use curate_core::Ctx;
use curate_core::kernels::cuda::libraries::libraries;
use curate_core::kernels::cuda::net::Precision;
use curate_core::kernels::cuda::{Cuda, Device, program};
use curate_core::kernels::{Backend, KernelError};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// Runs that are timed; the best counts.
const RUNS: usize = 3;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Version of this program.
    pub version: String,
    /// Device that was asked for.
    pub asked: String,
    /// Worker threads.
    pub threads: usize,
    /// What a GPU needs, found or not.
    pub libraries: Vec<LibraryFound>,
    /// Capabilities that this build carries compiled kernels for, such as 90 for 9.0.
    pub embedded_ptx: Vec<u32>,
    /// The driver as the kernel tells it, such as 580.65.06.
    pub kernel_driver: Option<String>,
    /// Why no GPU is examined, where none is.
    pub no_gpu: Option<String>,
    /// The devices, or the processor.
    pub patients: Vec<Patient>,
    /// Whether the device asked for was there and all checks passed.
    pub ok: bool,
}

/// One library.
#[derive(Clone, Debug, Serialize)]
pub struct LibraryFound {
    /// `driver`, `compiler` or `cublas`.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its version where it was found.
    pub version: Option<String>,
    /// What to install where it was not and is needed.
    pub install: Option<String>,
}

/// One device, or the processor.
#[derive(Clone, Debug, Serialize)]
pub struct Patient {
    /// `cuda:0`, `cpu-avx512-bf16`.
    pub name: String,
    /// Name of the chip.
    pub chip: Option<String>,
    /// Compute capability, such as 9.0.
    pub capability: Option<String>,
    /// Bytes of memory that may be used.
    pub memory_bytes: Option<u64>,
    /// Bytes that were free.
    pub free_bytes: Option<u64>,
    /// What it computes, against what it should.
    pub checks: Vec<Check>,
    /// What nothing can beat.
    pub roofs: Vec<Roof>,
    /// Its speed.
    pub figures: Vec<Figure>,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was compared.
    pub name: String,
    /// Largest error found; none when it could not be run.
    pub error: Option<f64>,
    /// What it may be at most.
    pub bound: f64,
    /// Whether it is.
    pub ok: bool,
    /// Why it could not be run.
    pub failure: Option<String>,
}

/// A limit of the chip, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Roof {
    /// `product`, `copy`, `exponentials`.
    pub name: String,
    /// How it was measured.
    pub size: String,
    /// In `unit`.
    pub rate: f64,
    /// `TFLOP/s`, `GB/s` or `Gexp/s`.
    pub unit: String,
}

/// One workload, timed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figure {
    /// The workload.
    pub name: String,
    /// Its size.
    pub size: String,
    /// Seconds of the best run.
    pub seconds: Option<f64>,
    /// In `unit`.
    pub rate: Option<f64>,
    /// `TFLOP/s`, `GB/s`, `Gexp/s` or `texts/s`.
    pub unit: String,
    /// Share of the roof with this unit.
    pub of_roof: Option<f64>,
    /// What is aimed at on an H200.
    pub goal: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
    /// Why it could not be run.
    pub failure: Option<String>,
}

/// What is examined, and how large the tasks are.
pub(crate) struct Subject<'a> {
    backend: Arc<dyn Backend>,
    /// The CUDA body, where it is one.
    cuda: Option<Cuda>,
    size: Size,
    /// Bytes of the host that a task may take.
    memory: u64,
    ctx: &'a Ctx,
}

/// How large the tasks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// For tests of the doctor itself.
    Tiny,
    Quick,
    Full,
}

/// Examine the devices that the host names; without a GPU under `auto`, the processor.
///
/// # Errors
/// Those of a device that is unknown, and a wish to stop. A device that cannot be used is a finding: see [`Examination::no_gpu`].
pub fn examine(quick: bool, host: &Host) -> Result<Examination> {
    let name = if host.device == "all" { "cuda:all" } else { &host.device };
    let mut found = Examination {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        asked: host.device.clone(),
        threads: host.threads,
        libraries: library_list(),
        embedded_ptx: program::embedded().into_iter().collect(),
        kernel_driver: kernel_driver(),
        no_gpu: None,
        patients: Vec::new(),
        ok: false,
    };
    let opened = match name {
        "auto" => devices("cuda"),
        other => devices(other),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.code() == "device/unknown" => return Err(error),
        Err(error) => {
            found.no_gpu = Some(error.to_string());
            if name != "auto" {
                return Ok(found);
            }
            Vec::new()
        }
    };
    let size = if quick { Size::Quick } else { Size::Full };
    let ctx =
        Ctx::new(0).with_memory(host.memory).with_cancel(host.cancel.clone()).with_progress(host.progress.clone());
    let memory = host.memory.limit_bytes();
    if opened.is_empty() {
        let backend = curate_core::kernels::open(if name == "auto" { "cpu" } else { name })?;
        let subject = Subject { backend, cuda: None, size, memory, ctx: &ctx };
        found.patients.push(host.install(|| subject.examine())?);
    }
    for device in opened {
        let subject = Subject::on(device, size, memory, &ctx);
        found.patients.push(host.install(|| subject.examine())?);
    }
    found.ok = found.patients.iter().all(Patient::is_well);
    Ok(found)
}

impl Patient {
    /// Whether every check passed and every workload ran.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.ok) && self.figures.iter().all(|figure| figure.failure.is_none())
    }
}

impl Examination {
    /// Why this machine is not fit for what was asked; none where it is.
    #[must_use]
    pub fn complaint(&self) -> Option<Error> {
        if self.ok {
            return None;
        }
        if let (true, Some(why)) = (self.patients.is_empty(), &self.no_gpu) {
            let cures: Vec<&str> = self.libraries.iter().filter_map(|l| l.install.as_deref()).collect();
            let hint = if cures.is_empty() {
                "see docs/gpu.md; --device cpu examines the processor".to_owned()
            } else {
                format!("{}; --device cpu examines the processor", cures.join("; "))
            };
            return Some(Error::device("device/unusable", why.clone()).hint(hint));
        }
        let wrong: Vec<String> = self.patients.iter().flat_map(Patient::wrong).collect();
        Some(
            Error::device("doctor/unwell", format!("not as it should be: {}", wrong.join("; ")))
                .hint("send the output of `curate doctor --json` with a report; until then use --device cpu"),
        )
    }
}

impl Patient {
    /// Names of what is wrong.
    fn wrong(&self) -> Vec<String> {
        let checks = self.checks.iter().filter(|check| !check.ok).map(|check| &check.name);
        let figures = self.figures.iter().filter(|figure| figure.failure.is_some()).map(|figure| &figure.name);
        checks.chain(figures).map(|name| format!("{}: {name}", self.name)).collect()
    }
}

impl<'a> Subject<'a> {
    /// A device.
    fn on(device: Device, size: Size, memory: u64, ctx: &'a Ctx) -> Self {
        let backend = Arc::new(Cuda::on(device.clone()));
        Self { backend, cuda: Some(Cuda::on(device)), size, memory, ctx }
    }

    fn device(&self) -> Option<&Device> {
        self.cuda.as_ref().map(Cuda::device)
    }

    /// Precisions that models are tried in.
    fn precisions(&self) -> Vec<Precision> {
        let own = self.device().map(Precision::of);
        own.into_iter()
            .flat_map(|own| [Some(Precision::F32), (own != Precision::F32).then_some(own)])
            .flatten()
            .collect()
    }

    fn examine(&self) -> Result<Patient> {
        let info = self.device().map(Device::info);
        let mut patient = Patient {
            name: self.backend.name().to_owned(),
            chip: info.as_ref().map(|info| info.chip.clone()),
            capability: info.as_ref().map(|info| format!("{}.{}", info.capability / 10, info.capability % 10)),
            memory_bytes: info.as_ref().map(|info| info.total),
            free_bytes: info.as_ref().map(|info| info.free),
            checks: Vec::new(),
            roofs: Vec::new(),
            figures: Vec::new(),
        };
        let step = |label: &str| self.ctx.progress().child(label);
        let shown = step("check kernels");
        patient.checks = checks::kernels(self)?;
        shown.finish();
        let shown = step("check models");
        patient.checks.extend(self.checks_of("language model", language::checks(self))?);
        patient.checks.extend(self.checks_of("encoder", encoder::checks(self))?);
        shown.finish();
        let shown = step("measure limits");
        let (roofs, failed) = figures::roofs(self)?;
        patient.roofs = roofs;
        patient.figures.extend(failed);
        shown.finish();
        let shown = step("measure kernels");
        patient.figures.extend(figures::kernels(self)?);
        shown.finish();
        let shown = step("measure models");
        patient.figures.extend(self.figures_of("language model", language::figures(self))?);
        patient.figures.extend(self.figures_of("encoder", encoder::figures(self))?);
        shown.finish();
        self.compare(&mut patient)?;
        Ok(patient)
    }

    /// Set figures beside the limits, which are measured once more: a chip that was idle, or shared, at first is slower than it can be.
    fn compare(&self, patient: &mut Patient) -> Result<()> {
        let (again, _) = figures::roofs(self)?;
        for roof in &mut patient.roofs {
            let second = again.iter().find(|other| other.name == roof.name);
            roof.rate = second.map_or(roof.rate, |other| other.rate.max(roof.rate));
        }
        for figure in &mut patient.figures {
            let roof = patient.roofs.iter().find(|roof| roof.unit == figure.unit);
            figure.of_roof = figure.rate.zip(roof).map(|(rate, roof)| rate / roof.rate);
        }
        Ok(())
    }

    /// Checks, or one that says why none could be made.
    fn checks_of(&self, what: &str, made: Result<Vec<Check>>) -> Result<Vec<Check>> {
        made.or_else(|why| Ok(vec![self.check(what, 0.0, || Err(why))?]))
    }

    /// The same for workloads.
    fn figures_of(&self, what: &str, made: Result<Vec<Figure>>) -> Result<Vec<Figure>> {
        made.or_else(|why| Ok(vec![self.figure(what, String::new(), |_| Err(why))?]))
    }

    /// One check: error and bound. What fails is said in the check; a wish to stop ends all.
    fn check(&self, name: impl Into<String>, bound: f64, error: impl FnOnce() -> Result<f64>) -> Result<Check> {
        self.ctx.tick(0)?;
        let name = name.into();
        match error() {
            Ok(error) => Ok(Check { name, error: Some(error), bound, ok: error <= bound, failure: None }),
            Err(why) if why.exit_code() == 130 => Err(why),
            Err(why) => Ok(Check { name, error: None, bound, ok: false, failure: Some(why.to_string()) }),
        }
    }

    /// One workload, which fills in the rest of the figure.
    fn figure(&self, name: &str, size: String, measure: impl FnOnce(&mut Figure) -> Result<()>) -> Result<Figure> {
        self.ctx.tick(0)?;
        let mut figure = Figure { name: name.to_owned(), size, ..Figure::default() };
        match measure(&mut figure) {
            Ok(()) => {}
            Err(why) if why.exit_code() == 130 => return Err(why),
            Err(why) => figure.failure = Some(why.to_string()),
        }
        Ok(figure)
    }

    /// Seconds of the best of a few runs after one that is not counted: by the device's own events, or by the clock.
    fn seconds(&self, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
        work()?;
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let seconds = if let Some(device) = self.device() {
                let start = device.mark()?;
                work()?;
                device.seconds(&start, &device.mark()?)?
            } else {
                let start = Instant::now();
                work()?;
                start.elapsed().as_secs_f64()
            };
            best = best.min(seconds);
        }
        Ok(best)
    }
}

/// Largest of some errors; NaN is the largest of all.
fn worst(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, |top: f64, e| if e.is_nan() || e > top { e } else { top })
}

fn library_list() -> Vec<LibraryFound> {
    let embedded = !program::embedded().is_empty();
    let one = |library: curate_core::kernels::cuda::libraries::Library| {
        let needed = library.version.is_none() && !(library.name == "compiler" && embedded);
        let version = library.version.map(|[major, minor, patch]| match patch {
            0 => format!("{major}.{minor}"),
            _ => format!("{major}.{minor}.{patch}"),
        });
        let install = needed.then(|| library.cure.to_owned());
        LibraryFound { name: library.name.to_owned(), file: library.file.to_owned(), version, install }
    };
    libraries().into_iter().map(one).collect()
}

/// The version in `/proc/driver/nvidia/version`.
fn kernel_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// Whether a failure is one of memory, after which less may fit.
const fn is_out_of_memory(error: &KernelError) -> bool {
    matches!(error, KernelError::OutOfMemory { .. })
}

#[cfg(test)]
mod tests;
