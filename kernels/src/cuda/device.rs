//! One device behind one set of methods: a real GPU, or the kernels' source run on the CPU for tests. What the host does (cutting work into
//! blocks, order and types of arguments, buffers) is the same for both.
//!
//! Everything is queued on one stream, in order; [`Device::download`] and [`Device::synchronize`] wait. Memory is counted against a limit
//! (`--vram`), and asking for more than there is gives [`KernelError::OutOfMemory`], after which the device is as before.

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::buffer::{Arg, Buffer, Plain};
use super::emulated;
use super::real::Real;
use crate::KernelError;

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Name of the chip.
    pub chip: String,
    /// Compute capability, 90 for 9.0.
    pub capability: u32,
    /// CUDA version the driver serves, 13000 for 13.0; 0 for the emulation.
    pub driver: i32,
    /// Bytes of shared memory that a block may have.
    pub shared: u32,
    /// Bytes of memory.
    pub total: u64,
    /// Bytes that are free now.
    pub free: u64,
}

pub(super) enum Body {
    Real(Box<Real>),
    Emulated,
}

pub(super) struct Core {
    pub(super) body: Body,
    /// Bytes that may be held, and that are.
    limit: AtomicU64,
    pub(super) used: AtomicU64,
    /// Times that something was found written beyond the ends of an emulated buffer.
    pub(super) torn: AtomicU64,
}

/// A device; clones share it.
#[derive(Clone)]
pub struct Device {
    pub(super) core: Arc<Core>,
}

impl Device {
    /// Open CUDA device `ordinal`. Compiled kernels are kept in `ptx_folder` if one is given.
    ///
    /// # Errors
    /// [`KernelError::Device`] that names the cause: no driver, one too old, no such device, a chip too old.
    pub fn open(ordinal: usize, ptx_folder: Option<PathBuf>) -> Result<Self, KernelError> {
        Ok(Self::new(Body::Real(Box::new(Real::open(ordinal, ptx_folder)?))))
    }

    /// The emulation, for tests.
    ///
    /// # Errors
    /// [`KernelError::Device`] where there is no g++.
    #[doc(hidden)]
    pub fn emulated() -> Result<Self, KernelError> {
        if emulated::is_available() {
            return Ok(Self::new(Body::Emulated));
        }
        Err(KernelError::Device { device: "emulated".to_owned(), message: "g++ was not found".to_owned() })
    }

    fn new(body: Body) -> Self {
        let core = Core { body, limit: AtomicU64::new(u64::MAX), used: AtomicU64::new(0), torn: AtomicU64::new(0) };
        Self { core: Arc::new(core) }
    }

    /// `cuda:0`, or `emulated`.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.core.body {
            Body::Real(real) => real.name(),
            Body::Emulated => "emulated",
        }
    }

    /// What it is, with the memory that is free now.
    #[must_use]
    pub fn info(&self) -> Info {
        let limit = self.core.limit.load(Ordering::Relaxed);
        let left = limit.saturating_sub(self.core.used.load(Ordering::Relaxed));
        let info = match &self.core.body {
            Body::Real(real) => real.info(),
            Body::Emulated => Info {
                chip: "emulated".to_owned(),
                capability: 90,
                driver: 0,
                shared: 227 << 10,
                total: 8 << 30,
                free: 8 << 30,
            },
        };
        Info { total: info.total.min(limit), free: info.free.min(left), ..info }
    }

    /// Compute capability, 90 for 9.0.
    #[must_use]
    pub fn capability(&self) -> u32 {
        match &self.core.body {
            Body::Real(real) => real.fixed().capability,
            Body::Emulated => 90,
        }
    }

    /// Bytes of shared memory that a block may have.
    #[must_use]
    pub fn shared_memory(&self) -> u32 {
        match &self.core.body {
            Body::Real(real) => real.fixed().shared,
            Body::Emulated => 227 << 10,
        }
    }

    /// Hold at most so many bytes from now on (`--vram`).
    pub fn limit_memory(&self, bytes: u64) {
        self.core.limit.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, message: impl Into<String>) -> KernelError {
        KernelError::Device { device: self.name().to_owned(), message: message.into() }
    }

    /// `len` elements that hold anything.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`].
    pub fn alloc<T: Plain>(&self, len: usize) -> Result<Buffer<T>, KernelError> {
        let bytes = (len * size_of::<T>()).max(1);
        let counted = bytes as u64;
        let out =
            || KernelError::OutOfMemory { device: self.name().to_owned(), wanted: counted, free: self.info().free };
        let held = self.core.used.fetch_add(counted, Ordering::Relaxed) + counted;
        let address = if held > self.core.limit.load(Ordering::Relaxed) {
            Ok(None)
        } else {
            match &self.core.body {
                Body::Real(real) => real.allocate(bytes),
                Body::Emulated => Ok(Some(emulated::allocate(bytes))),
            }
        };
        match address {
            Ok(Some(address)) => Ok(Buffer::new(Arc::clone(&self.core), address, len)),
            Ok(None) => {
                self.core.used.fetch_sub(counted, Ordering::Relaxed);
                Err(out())
            }
            Err(error) => {
                self.core.used.fetch_sub(counted, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn zeros<T: Plain>(&self, len: usize) -> Result<Buffer<T>, KernelError> {
        let buffer = self.alloc(len)?;
        self.clear(&buffer)?;
        Ok(buffer)
    }

    /// Set every byte to zero.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    pub fn clear<T: Plain>(&self, buffer: &Buffer<T>) -> Result<(), KernelError> {
        let bytes = buffer.len() * size_of::<T>();
        match &self.core.body {
            Body::Real(real) => real.fill(buffer.place(0), 0, bytes),
            Body::Emulated => {
                // SAFETY: the buffer is host memory of that size; all bits zero is a value of every plain type.
                unsafe { std::ptr::write_bytes(buffer.place(0) as *mut u8, 0, bytes) };
                Ok(())
            }
        }
    }

    /// A copy of `data` on the device.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn upload<T: Plain>(&self, data: &[T]) -> Result<Buffer<T>, KernelError> {
        let buffer = self.alloc(data.len())?;
        self.copy_into(data, &buffer, 0)?;
        Ok(buffer)
    }

    /// Write `data` into `buffer` from element `offset` on.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when it does not fit.
    pub fn copy_into<T: Plain>(&self, data: &[T], buffer: &Buffer<T>, offset: usize) -> Result<(), KernelError> {
        fits("copy_into", offset, data.len(), buffer.len())?;
        match &self.core.body {
            Body::Real(real) => real.write(buffer.place(offset), data),
            Body::Emulated => {
                // SAFETY: checked to lie within the buffer, which is host memory no one else writes meanwhile.
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), buffer.place(offset) as *mut T, data.len()) };
                Ok(())
            }
        }
    }

    /// Copy elements between buffers: `count` from `from` (offset, buffer) to `to`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when they do not lie within.
    pub fn copy_between<T: Plain>(
        &self,
        from: (&Buffer<T>, usize),
        to: (&Buffer<T>, usize),
        count: usize,
    ) -> Result<(), KernelError> {
        fits("copy_between", from.1, count, from.0.len())?;
        fits("copy_between", to.1, count, to.0.len())?;
        let (source, target) = (from.0.place(from.1), to.0.place(to.1));
        match &self.core.body {
            Body::Real(real) => real.copy(target, source, count * size_of::<T>()),
            Body::Emulated => {
                // SAFETY: both ranges lie within host memory; they may overlap.
                unsafe { std::ptr::copy(source as *const T, target as *mut T, count) };
                Ok(())
            }
        }
    }

    /// Wait and fetch the first `out.len()` elements.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when there are fewer; [`KernelError::Device`] when a kernel before failed.
    pub fn download<T: Plain>(&self, buffer: &Buffer<T>, out: &mut [T]) -> Result<(), KernelError> {
        self.download_from(buffer, 0, out)
    }

    /// The same from element `offset` on.
    ///
    /// # Errors
    /// As [`Device::download`].
    pub fn download_from<T: Plain>(&self, buffer: &Buffer<T>, offset: usize, out: &mut [T]) -> Result<(), KernelError> {
        fits("download", offset, out.len(), buffer.len())?;
        match &self.core.body {
            Body::Real(real) => real.read(out, buffer.place(offset)),
            Body::Emulated => {
                // SAFETY: checked to lie within the buffer; the size is the one it was allocated with.
                unsafe {
                    std::ptr::copy_nonoverlapping(buffer.place(offset) as *const T, out.as_mut_ptr(), out.len());
                    let whole = emulated::is_whole(buffer.place(0), (buffer.len() * size_of::<T>()).max(1));
                    self.core.torn.fetch_add(u64::from(!whole), Ordering::Relaxed);
                }
                self.synchronize()
            }
        }
    }

    /// Queue `kernel` with `grid` blocks of `block` threads (whole warps) and `shared` bytes of dynamic shared memory. Arguments must be
    /// those of the kernel, and buffers as large as it expects.
    ///
    /// # Errors
    /// [`KernelError::Device`]; on a real device a failure while it runs shows at the next wait.
    pub fn launch(
        &self,
        kernel: &'static str,
        grid: (u32, u32, u32),
        block: u32,
        shared: u32,
        args: &[Arg<'_>],
    ) -> Result<(), KernelError> {
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        let places: Vec<_> = args.iter().map(Arg::place).collect();
        match &self.core.body {
            Body::Real(real) => {
                let mut pointers: Vec<*mut c_void> = places.iter().map(|place| place.0.cast_mut()).collect();
                real.launch(kernel, grid, block, shared, &mut pointers)
            }
            Body::Emulated => {
                let pointers: Vec<*const c_void> = places.iter().map(|place| place.0).collect();
                let sizes: Vec<u32> = places.iter().map(|place| place.1).collect();
                emulated::launch(kernel, [grid.0, grid.1, grid.2], block, shared, &pointers, &sizes)
                    .map_err(|why| self.fail(format!("{kernel}: {why}")))
            }
        }
    }

    /// Wait until everything queued is done.
    ///
    /// # Errors
    /// [`KernelError::Device`] when any of it failed.
    pub fn synchronize(&self) -> Result<(), KernelError> {
        match &self.core.body {
            Body::Real(real) => real.synchronize(),
            Body::Emulated if self.core.torn.load(Ordering::Relaxed) > 0 => {
                Err(self.fail("a kernel wrote beyond the end of a buffer"))
            }
            Body::Emulated => Ok(()),
        }
    }
}

fn fits(op: &'static str, offset: usize, count: usize, len: usize) -> Result<(), KernelError> {
    if offset.checked_add(count).is_some_and(|end| end <= len) {
        return Ok(());
    }
    Err(KernelError::Shape { op, expected: format!("{offset} + {count} elements"), got: format!("a buffer of {len}") })
}
