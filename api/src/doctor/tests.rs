//! The doctor on the processor and on the emulated device: all checks pass, every workload is timed, and a defect is seen.

use super::*;
use curate_core::kernels::cuda::emulated_for_tests;

fn subject(cuda: Option<Device>, ctx: &Ctx) -> Subject<'_> {
    match cuda {
        Some(device) => Subject::on(device, Size::Tiny, 1 << 30, ctx),
        None => Subject { backend: curate_core::kernels::cpu(), cuda: None, size: Size::Tiny, memory: 1 << 30, ctx },
    }
}

fn healthy(patient: &Patient) {
    println!("{patient}");
    for check in &patient.checks {
        assert!(check.ok, "{check:?}");
    }
    for figure in &patient.figures {
        assert_eq!(figure.failure, None, "{figure:?}");
        assert!(figure.rate.is_some_and(|rate| rate > 0.0) && !figure.unit.is_empty(), "{figure:?}");
    }
    assert!(patient.is_well() && patient.roofs.iter().all(|roof| roof.rate > 0.0));
}

#[test]
fn the_processor_is_well() {
    let ctx = Ctx::new(0);
    let patient = subject(None, &ctx).examine().unwrap();
    healthy(&patient);
    assert_eq!((patient.checks.len(), patient.roofs.len(), patient.figures.len()), (12, 2, 6));
    assert!(!patient.to_string().contains("H200"), "goals are those of a GPU");
}

#[test]
fn more_than_the_limit_is_explained() {
    let figure = Figure { rate: Some(1.0), of_roof: Some(1.62), ..Figure::default() };
    assert!(figure.to_string().contains("> 100 %") && figure.to_string().contains("above the limit"));
    let figure = Figure { of_roof: Some(1.004), ..figure };
    assert!(figure.to_string().contains("100 %") && !figure.to_string().contains("above"));
}

#[test]
fn an_emulated_device_is_well() {
    let Some(device) = emulated_for_tests() else { return };
    let ctx = Ctx::new(0);
    let patient = subject(Some(device), &ctx).examine().unwrap();
    healthy(&patient);
    assert!(patient.checks.iter().filter(|check| check.name.contains("bf16")).count() >= 3);
    assert_eq!((patient.roofs.len(), patient.figures.len()), (3, 8));
    assert!(patient.figures.iter().filter(|figure| figure.of_roof.is_some()).count() >= 5);
}

#[test]
fn what_fails_is_said_and_the_rest_goes_on() {
    let Some(device) = emulated_for_tests() else { return };
    device.limit_memory(3000);
    let ctx = Ctx::new(0);
    let patient = subject(Some(device), &ctx).examine().unwrap();
    assert!(!patient.is_well());
    let failures = patient.checks.iter().filter_map(|check| check.failure.as_deref());
    assert!(failures.clone().count() > 5, "{patient}");
    assert!(failures.into_iter().all(|why| why.contains("--vram") || why.contains("did not fit")), "{patient}");
    assert!(patient.to_string().contains("WRONG"));
}

#[test]
fn a_wish_to_stop_is_heard() {
    let ctx = Ctx::new(0);
    let cancel = curate_core::Cancel::default();
    cancel.cancel();
    let stopped = subject(None, &ctx.with_cancel(cancel)).examine().unwrap_err();
    assert_eq!(stopped.exit_code(), 130);
}

#[test]
fn a_device_that_is_missing_is_a_finding_and_an_unknown_one_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let host = crate::local(folder.path()).unwrap();
    let found = examine(true, &Host { device: "cuda:4095".to_owned(), ..host.clone() }).unwrap();
    assert!(!found.ok && found.patients.is_empty());
    let complaint = found.complaint().unwrap();
    assert_eq!((complaint.code(), complaint.exit_code()), ("device/unusable", 4));
    assert!(complaint.hint_text().is_some_and(|hint| hint.contains("--device cpu")));
    assert_eq!(found.libraries.len(), 3);
    assert!(found.to_string().contains("no GPU is used"));
    let unknown = examine(true, &Host { device: "abacus".to_owned(), ..host }).unwrap_err();
    assert_eq!((unknown.code(), unknown.exit_code()), ("device/unknown", 2));
}
