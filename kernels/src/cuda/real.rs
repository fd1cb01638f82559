//! A real CUDA device: context, two streams, modules and cuBLAS, all loaded at run time through cudarc.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::{result as blas, sys as blas_sys};
use cudarc::driver::{CudaContext, CudaStream, DriverError, PinnedHostSlice, result, sys};

use super::device::Info;
use super::driver::{cause, check_driver, idle, keep_pool};
use super::program::sources;
use crate::KernelError;

/// Least capability that runs our kernels.
const LEAST: u32 = 75;

/// One opened device.
pub(super) struct Real {
    /// First, so that it goes before the context does.
    blas: Mutex<Option<Blas>>,
    name: String,
    context: Arc<CudaContext>,
    /// Kernels run here, and everything that must follow them.
    pub(super) main: Arc<CudaStream>,
    /// Rows travel here while kernels run.
    pub(super) copy: Arc<CudaStream>,
    info: Info,
    ptx_folder: Option<PathBuf>,
    functions: Mutex<HashMap<&'static str, Function>>,
    /// Pinned memory of the last feed, for the next.
    pub(super) spare: Mutex<Vec<PinnedHostSlice<u8>>>,
}

/// A loaded kernel; lives as long as its module, which is never unloaded before the context.
#[derive(Clone, Copy)]
struct Function(sys::CUfunction);
// SAFETY: a handle that any thread may use once the context is bound to it.
unsafe impl Send for Function {}

struct Blas(blas_sys::cublasHandle_t);
// SAFETY: used under a lock; the handle itself may move between threads.
unsafe impl Send for Blas {}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: created by us, used by no one any more.
        let _ = unsafe { blas::destroy_handle(self.0) };
    }
}

impl Real {
    /// Open device `ordinal`, with an error for each cause.
    pub(super) fn open(ordinal: usize, ptx_folder: Option<PathBuf>) -> Result<Self, KernelError> {
        let name = format!("cuda:{ordinal}");
        let fail = |message: String| KernelError::Device { device: name.clone(), message };
        // SAFETY: tries to load the driver's library and nothing else.
        if !unsafe { sys::is_culib_present() } {
            return Err(fail("libcuda was not found; install the NVIDIA driver, or use --device cpu".to_owned()));
        }
        let driver = check_driver().map_err(fail)?;
        let count = CudaContext::device_count().map_err(|e| fail(cause(e)))?;
        if ordinal >= usize::try_from(count).unwrap_or(0) {
            let known = match count {
                0 => "this machine has none".to_owned(),
                1 => "this machine has one, cuda:0".to_owned(),
                n => format!("this machine has {n}, cuda:0 to cuda:{}", n - 1),
            };
            return Err(fail(format!("there is no such CUDA device; {known}")));
        }
        let opened = (|| {
            let context = CudaContext::new(ordinal)?;
            let streams = (context.new_stream()?, context.new_stream()?);
            let (major, minor) = context.compute_capability()?;
            let (free, total) = context.mem_get_info()?;
            let info = Info {
                chip: context.name()?,
                capability: (10 * major + minor).unsigned_abs(),
                driver,
                shared: context
                    .attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?
                    .unsigned_abs(),
                total: total as u64,
                free: free as u64,
            };
            keep_pool(&context)?;
            Ok((context, streams, info))
        })();
        let (context, (main, copy), info) = opened.map_err(|e: DriverError| fail(cause(e)))?;
        if info.capability < LEAST {
            let (major, minor) = (info.capability / 10, info.capability % 10);
            let message = format!("{} has compute capability {major}.{minor}; 7.5 or newer is needed", info.chip);
            return Err(fail(format!("{message}; use --device cpu")));
        }
        Ok(Self {
            name,
            context,
            main,
            copy,
            info,
            ptx_folder,
            functions: Mutex::default(),
            blas: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn info(&self) -> Info {
        let free = self.context.mem_get_info().map_or(self.info.free, |(free, _)| free as u64) + idle(&self.context);
        Info { free, ..self.info.clone() }
    }

    /// What does not change.
    pub(super) const fn fixed(&self) -> &Info {
        &self.info
    }

    /// Say what a driver's error means.
    pub(super) fn failed(&self, error: DriverError) -> KernelError {
        KernelError::Device { device: self.name.clone(), message: cause(error) }
    }

    fn bind(&self) -> Result<(), KernelError> {
        self.context.bind_to_thread().map_err(|e| self.failed(e))
    }

    /// Memory in the order of the main stream; `Ok(None)` when there is not enough.
    pub(super) fn allocate(&self, bytes: usize) -> Result<Option<u64>, KernelError> {
        self.bind()?;
        let stream = self.main.cu_stream();
        let pooled = self.context.has_async_alloc();
        // SAFETY: the stream is ours; what the memory holds is for the caller to write.
        let once = || unsafe { if pooled { result::malloc_async(stream, bytes) } else { result::malloc_sync(bytes) } };
        let out_of_memory = |e: &DriverError| e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        match once() {
            Ok(address) => Ok(Some(address)),
            Err(e) if out_of_memory(&e) => {
                // Blocks given back but not yet passed may be what is missing.
                self.main.synchronize().map_err(|e| self.failed(e))?;
                match once() {
                    Ok(address) => Ok(Some(address)),
                    Err(e) if out_of_memory(&e) => Ok(None),
                    Err(e) => Err(self.failed(e)),
                }
            }
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Give memory back once the main stream has passed here.
    pub(super) fn release(&self, address: u64) {
        if self.bind().is_err() {
            return;
        }
        // SAFETY: allocated the same way on this stream and owned by one buffer.
        let _ = unsafe {
            if self.context.has_async_alloc() {
                result::free_async(address, self.main.cu_stream())
            } else {
                result::free_sync(address)
            }
        };
    }

    pub(super) fn fill(&self, address: u64, byte: u8, bytes: usize) -> Result<(), KernelError> {
        self.bind()?;
        // SAFETY: the caller's buffer holds so many bytes.
        unsafe { result::memset_d8_async(address, byte, bytes, self.main.cu_stream()) }.map_err(|e| self.failed(e))
    }

    /// Copy from pageable memory; the driver has taken the bytes when this returns.
    pub(super) fn write<T>(&self, address: u64, from: &[T]) -> Result<(), KernelError> {
        self.bind()?;
        // SAFETY: the buffer is as large as the slice; pageable memory is staged before the call returns.
        unsafe { result::memcpy_htod_async(address, from, self.main.cu_stream()) }.map_err(|e| self.failed(e))
    }

    /// Copy back and wait for it.
    pub(super) fn read<T>(&self, to: &mut [T], address: u64) -> Result<(), KernelError> {
        self.bind()?;
        // SAFETY: as above; `to` outlives the wait.
        unsafe { result::memcpy_dtoh_async(to, address, self.main.cu_stream()) }.map_err(|e| self.failed(e))?;
        self.synchronize()
    }

    pub(super) fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<(), KernelError> {
        self.bind()?;
        // SAFETY: both buffers hold so many bytes.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.main.cu_stream()) }.map_err(|e| self.failed(e))
    }

    pub(super) fn synchronize(&self) -> Result<(), KernelError> {
        self.main.synchronize().map_err(|e| self.failed(e))
    }

    /// Queue a kernel on the main stream.
    pub(super) fn launch(
        &self,
        kernel: &'static str,
        grid: (u32, u32, u32),
        block: u32,
        shared: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<(), KernelError> {
        self.bind()?;
        let function = self.function(kernel)?.0;
        let stream = self.main.cu_stream();
        // SAFETY: the function is loaded; number and types of the arguments are checked by the emulated runs of the same call.
        unsafe {
            if shared > 48 << 10 {
                let limit = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                result::function::set_function_attribute(function, limit, shared.cast_signed())
                    .map_err(|e| self.failed(e))?;
            }
            result::launch_kernel(function, grid, (block, 1, 1), shared, stream, arguments)
        }
        .map_err(|e| self.failed(e))
    }

    fn function(&self, kernel: &'static str) -> Result<Function, KernelError> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(kernel) {
            return Ok(*function);
        }
        let fail = |message: String| KernelError::Device { device: self.name.clone(), message };
        let source =
            sources().find(|s| s.kernels().contains(&kernel)).ok_or_else(|| fail(format!("no kernel {kernel}")))?;
        let ptx = source.ptx(self.info.capability, self.ptx_folder.as_deref()).map_err(fail)?;
        let text = CString::new(ptx).map_err(|e| fail(e.to_string()))?;
        // SAFETY: the text ends with a zero; the module is never unloaded.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) }.map_err(|e| self.failed(e))?;
        for name in source.kernels() {
            let symbol = CString::new(name).map_err(|e| fail(e.to_string()))?;
            // SAFETY: the module was loaded just now.
            let found = unsafe { result::module::get_function(module, symbol) };
            functions.insert(name, Function(found.map_err(|e| fail(format!("kernel {name}: {}", cause(e))))?));
        }
        functions.get(kernel).copied().ok_or_else(|| fail(format!("no kernel {kernel}")))
    }

    /// Call cuBLAS on the main stream, one thread at a time.
    pub(super) fn with_blas(
        &self,
        call: impl FnOnce(blas_sys::cublasHandle_t) -> Result<(), blas::CublasError>,
    ) -> Result<(), KernelError> {
        self.bind()?;
        let fail = |message: String| KernelError::Device { device: self.name.clone(), message };
        let mut held = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = if let Some(blas) = held.as_ref() {
            blas.0
        } else {
            // SAFETY: tries to load the library and nothing else.
            if !unsafe { blas_sys::is_culib_present() } {
                let how = "install CUDA 13 or `pip install nvidia-cublas` and put its lib folder on LD_LIBRARY_PATH";
                return Err(fail(format!("libcublas was not found; {how}")));
            }
            let made = blas::create_handle().map(Blas).map_err(|e| fail(format!("cuBLAS cannot start: {e}")))?;
            // SAFETY: handle and stream are ours; the runtime's stream type is the driver's.
            unsafe { blas::set_stream(made.0, self.main.cu_stream().cast()) }.map_err(|e| fail(e.to_string()))?;
            held.insert(made).0
        };
        call(handle).map_err(|e| fail(format!("cuBLAS: {e}")))
    }
}
