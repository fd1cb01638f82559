//! What can go wrong inside a kernel.

/// Errors of this room. Callers turn them into `curate_core::Error` at the trait boundary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Two shapes that must agree do not.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What it needed.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A number that is NaN or infinite, or too large to be squared, where a finite one is needed.
    #[error("{op}: row {row} holds a number that is not finite, or too large to be squared in f32")]
    NotFinite {
        /// The operation.
        op: &'static str,
        /// First offending row.
        row: usize,
    },
    /// The caller's tick asked to stop.
    #[error("stopped by the caller")]
    Stopped,
    /// The accelerator cannot be used; the text says why and what to install.
    #[error("device {device}: {message}")]
    Device {
        /// Its name, such as `cuda:0`.
        device: String,
        /// Why.
        message: String,
    },
    /// The accelerator has not the memory asked for; less at a time may do.
    #[error("device {device}: {wanted} bytes were asked for and {free} are free; use smaller batches, or raise --vram")]
    OutOfMemory {
        /// Its name, such as `cuda:0`.
        device: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that were free.
        free: u64,
    },
}
