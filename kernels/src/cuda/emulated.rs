//! A device that is no device: the kernels' own source, compiled by g++ with `emulate.h` in CUDA's place and run on the calling thread.
//!
//! For tests where there is no GPU. "Device memory" is the host's, with a fence of known bytes on both sides of every buffer that is
//! looked at when the buffer is read or given back. Cost: a few seconds of g++ the first time, kept in the temporary folder after.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::program::{Source, fingerprint, sources};

const HEADER: &str = include_str!("emulate.h");
const RTLD_NOW: c_int = 2;
/// Bytes of a fence, and what they hold.
const FENCE: usize = 128;
const MARK: u8 = 0xA5;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

type Launch = unsafe extern "C" fn(
    *const c_char,
    *const c_uint,
    c_uint,
    c_uint,
    *const *const c_void,
    *const c_uint,
    c_uint,
) -> *const c_char;

/// Programs built so far, for the whole process.
static BUILT: Mutex<Option<HashMap<&'static str, Launch>>> = Mutex::new(None);

/// Whether the compiler is there.
pub(super) fn is_available() -> bool {
    cfg!(unix) && Command::new("g++").arg("--version").output().is_ok_and(|out| out.status.success())
}

/// Run a kernel to its end. `arguments` are pointers to the values, `sizes` their bytes.
pub(super) fn launch(
    kernel: &'static str,
    grid: [u32; 3],
    block: u32,
    shared: u32,
    arguments: &[*const c_void],
    sizes: &[u32],
) -> Result<(), String> {
    let entry = entry_of(kernel)?;
    let name = CString::new(kernel).map_err(|e| e.to_string())?;
    // SAFETY: the library checks number and sizes of the arguments against the kernel; the pointers are valid during the call.
    let message = unsafe {
        entry(name.as_ptr(), grid.as_ptr(), block, shared, arguments.as_ptr(), sizes.as_ptr(), sizes.len() as u32)
    };
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: the library answers with a literal.
    Err(unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned())
}

fn entry_of(kernel: &'static str) -> Result<Launch, String> {
    let source = sources().find(|s| s.kernels().contains(&kernel)).ok_or_else(|| format!("no kernel {kernel}"))?;
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_with(HashMap::new);
    if let Some(entry) = built.get(source.name) {
        return Ok(*entry);
    }
    let entry = load(&build(source)?)?;
    built.insert(source.name, entry);
    Ok(entry)
}

/// The library of a program, from the temporary folder where this very text was built before.
fn build(source: &Source) -> Result<PathBuf, String> {
    let entries: Vec<String> =
        source.kernels().iter().map(|name| format!("emulate::entry(\"{name}\", {name})")).collect();
    let code = format!("{HEADER}\n{}\nEMULATE_KERNELS({})\n", source.code(), entries.join(", "));
    let target: &[&str] = if cfg!(target_arch = "x86_64") { &["-march=native", "-mtls-dialect=gnu2"] } else { &[] };
    let general = ["-std=c++17", "-O1", "-fno-strict-aliasing", "-ffp-contract=off", "-shared", "-fPIC", "-w"];
    let options: Vec<&str> = general.iter().chain(target).copied().collect();
    let key = fingerprint(&[code.as_bytes(), options.concat().as_bytes()]);
    let folder = std::env::temp_dir().join("curate-emulated");
    let library = folder.join(format!("{}-{key:016x}.so", source.name));
    if library.exists() {
        return Ok(library);
    }
    let said = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::create_dir_all(&folder).map_err(said)?;
    let part = folder.join(format!("{}-{key:016x}.{}", source.name, std::process::id()));
    let (text, made) = (part.with_extension("cc"), part.with_extension("part"));
    std::fs::write(&text, code).map_err(said)?;
    let out = Command::new("g++").args(&options).arg("-o").args([&made, &text]).output();
    let out = out.map_err(|e| format!("g++ cannot be run: {e}"))?;
    let _ = std::fs::remove_file(&text);
    if !out.status.success() {
        return Err(format!("{} does not compile:\n{}", source.name, String::from_utf8_lossy(&out.stderr)));
    }
    std::fs::rename(&made, &library).map_err(said)?;
    Ok(library)
}

fn load(path: &Path) -> Result<Launch, String> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: loads a library that this process built from its own sources; its only entry has the type `Launch`.
    unsafe {
        let library = dlopen(name.as_ptr(), RTLD_NOW);
        let entry = if library.is_null() { library } else { dlsym(library, c"emulate_launch".as_ptr()) };
        if entry.is_null() {
            let why = dlerror();
            let why = if why.is_null() { "unknown".into() } else { CStr::from_ptr(why).to_string_lossy() };
            return Err(format!("{}: {why}", path.display()));
        }
        Ok(std::mem::transmute::<*mut c_void, Launch>(entry))
    }
}

/// A unit of memory: its alignment serves every type a kernel reads at once.
#[derive(Clone, Copy)]
#[repr(C, align(128))]
struct Line([u8; FENCE]);

/// Lines that hold so many bytes and both fences.
fn lines(bytes: usize) -> usize {
    bytes.div_ceil(FENCE) + 2
}

/// Memory with fences: its address. Fresh memory is all ones, so that a number never written is NaN.
pub(super) fn allocate(bytes: usize) -> u64 {
    let mut room = vec![Line([0xFF; FENCE]); lines(bytes)].into_boxed_slice();
    room[0] = Line([MARK; FENCE]);
    room[lines(bytes) - 1] = Line([MARK; FENCE]);
    room[lines(bytes) - 2].0[(bytes - 1) % FENCE + 1..].fill(MARK);
    Box::into_raw(room).cast::<u8>() as u64 + FENCE as u64
}

/// Whether nothing was written beyond either end.
///
/// # Safety
/// The address must come from [`allocate`] with the same size and not be freed.
pub(super) unsafe fn is_whole(address: u64, bytes: usize) -> bool {
    let start = (address as usize - FENCE) as *const u8;
    // SAFETY: by the contract the memory spans whole lines from one fence to the end of the other.
    let all = unsafe { std::slice::from_raw_parts(start, lines(bytes) * FENCE) };
    all[..FENCE].iter().chain(&all[FENCE + bytes..]).all(|byte| *byte == MARK)
}

/// Give memory back.
///
/// # Safety
/// As for [`is_whole`]; the address is void after.
pub(super) unsafe fn release(address: u64, bytes: usize) {
    let room = std::ptr::slice_from_raw_parts_mut((address as usize - FENCE) as *mut Line, lines(bytes));
    // SAFETY: the very slice that `allocate` took from a box.
    drop(unsafe { Box::from_raw(room) });
}
