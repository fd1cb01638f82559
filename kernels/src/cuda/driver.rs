//! What the driver says, in words that tell what to do; and the pool that memory comes from.

use std::ffi::CStr;

use cudarc::driver::{CudaContext, DriverError, result, sys};

/// The driver's version that reads the PTX of CUDA 13.
const DRIVER: i32 = 13_000;

/// The driver's version, or why it cannot serve.
pub(super) fn check_driver() -> Result<i32, String> {
    let mut version = 0;
    // SAFETY: the library was found; the place is valid.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    if asked == sys::CUresult::CUDA_SUCCESS
        && let Some(why) = too_old(version)
    {
        return Err(why);
    }
    result::init().map(|()| version).map_err(cause)
}

/// Why a driver that serves this version of CUDA cannot serve us.
pub(super) fn too_old(version: i32) -> Option<String> {
    let (major, minor) = (version / 1000, version % 1000 / 10);
    let what = format!("the NVIDIA driver serves CUDA {major}.{minor} and 13.0 is needed");
    (version < DRIVER).then(|| format!("{what}; install driver 580 or newer, or use --device cpu"))
}

/// Blocks given back stay with the process, so that the next request costs nothing.
pub(super) fn keep_pool(context: &CudaContext) -> Result<(), DriverError> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut all = u64::MAX;
    let what = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the device is open; the attribute is a 64-bit number.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        result::mem_pool::set_attribute(pool, what, (&raw mut all).cast())
    }
}

/// Bytes that the process holds and does not use.
pub(super) fn idle(context: &CudaContext) -> u64 {
    let ask = |what| {
        let mut bytes = 0u64;
        // SAFETY: the device is open; both attributes are 64-bit numbers.
        let asked = unsafe {
            result::device::get_default_mem_pool(context.cu_device())
                .and_then(|pool| result::mem_pool::get_attribute(pool, what, (&raw mut bytes).cast()))
        };
        asked.map_or(0, |()| bytes)
    };
    let held = ask(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    held.saturating_sub(ask(sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT))
}

/// The driver's words, and what to do where that is known.
pub(super) fn cause(error: DriverError) -> String {
    let text = error.error_string().map_or("unknown error".into(), CStr::to_string_lossy);
    let hint = match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => "; no NVIDIA GPU is visible (see nvidia-smi and CUDA_VISIBLE_DEVICES)",
        sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "; reboot, or reinstall the NVIDIA driver: library and kernel module differ"
        }
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => "; install NVIDIA driver 580 or newer",
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => "; another process holds the memory (see nvidia-smi)",
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => "; libcuda is a stub: install the NVIDIA driver",
        _ => "",
    };
    format!("{text}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_named_with_what_to_install() {
        let why = too_old(12_080).expect("too old");
        assert!(why.contains("12.8") && why.contains("580"), "{why}");
        assert_eq!(too_old(13_000), None);
        assert_eq!(too_old(13_010), None);
    }
}
