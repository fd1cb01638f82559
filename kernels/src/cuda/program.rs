//! Libraries and programs: what must be there before cudarc is called (it panics otherwise), and the compiled kernels.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};

/// CUDA C of all kernels.
const SOURCE: &str = include_str!("kernels.cu");

/// Whether the run-time compiler can be loaded.
pub(super) fn has_nvrtc() -> bool {
    // SAFETY: tries to load the library and nothing else; its initialisers are NVIDIA's.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// Whether the driver can be loaded.
pub(super) fn has_driver() -> bool {
    // SAFETY: as above.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Compile for one architecture such as `compute_90`. [`has_nvrtc`] must have said yes.
pub(super) fn compile(architecture: &str) -> Result<Ptx, CompileError> {
    let options = vec![format!("--gpu-architecture={architecture}")];
    compile_ptx_with_opts(SOURCE, CompileOptions { fmad: Some(false), options, ..CompileOptions::default() })
}

/// The kernels, loaded on one device.
pub(super) struct Program {
    pub(super) row_sq_norms: CudaFunction,
    pub(super) assign: CudaFunction,
    pub(super) own_sq_dist: CudaFunction,
    pub(super) min_sq_dist_update: CudaFunction,
    pub(super) top_k: CudaFunction,
    pub(super) segment_sums: CudaFunction,
}

impl Program {
    /// Compile and load for the device of `context`.
    pub(super) fn load(context: &Arc<CudaContext>) -> Result<Self, String> {
        let (major, minor) = context.compute_capability().map_err(|e| e.to_string())?;
        let ptx = compile(&format!("compute_{major}{minor}")).map_err(|e| format!("kernels do not compile: {e}"))?;
        let module: Arc<CudaModule> = context.load_module(ptx).map_err(|e| e.to_string())?;
        let function = |name| module.load_function(name).map_err(|e| format!("kernel {name}: {e}"));
        Ok(Self {
            row_sq_norms: function("row_sq_norms")?,
            assign: function("assign")?,
            own_sq_dist: function("own_sq_dist")?,
            min_sq_dist_update: function("min_sq_dist_update")?,
            top_k: function("top_k")?,
            segment_sums: function("segment_sums")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_compile_where_the_compiler_is_found() {
        if !has_nvrtc() {
            eprintln!(
                "SKIPPED: libnvrtc was not found, the CUDA kernels were NOT compiled (put it on LD_LIBRARY_PATH)"
            );
            return;
        }
        for architecture in ["compute_75", "compute_80", "compute_90", "compute_100"] {
            match compile(architecture) {
                Ok(ptx) => {
                    let text = ptx.to_src();
                    for name in ["row_sq_norms", "assign", "own_sq_dist", "min_sq_dist_update", "top_k", "segment_sums"]
                    {
                        assert!(text.contains(&format!(".entry {name}(")), "{architecture}: {name}");
                    }
                }
                Err(CompileError::CompileError { log, .. }) => panic!("{architecture}: {}", log.to_string_lossy()),
                Err(other) => panic!("{architecture}: {other}"),
            }
        }
    }
}
