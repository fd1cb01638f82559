//! Transformers on a device: a decoder that is scored and trained, an encoder of texts.
//!
//! Products go to cuBLAS, everything between them to the kernels here. Nothing adds with atomics and every reduction has a
//! fixed order, so that the same batch gives the same bits on the same device. Not yet measured on a GPU.

#![allow(clippy::many_single_char_names)] // reason: names are those of the formulas

mod attention;
mod backward;
mod decoder;
mod devices;
mod encoder;
mod forward;
mod grads;
mod head;
mod numbers;
mod ops;
mod plan;
mod product;
mod weights;

pub use decoder::{Decoder, Found, Input, Labels};
pub use devices::{Settings, configure, device, devices, is_device};
pub use encoder::{Activation, Affine, Encoder, EncoderBlock, EncoderParts, Pooling, Scaling};
pub use numbers::{Precision, Values};
pub use plan::{Adapter, Block, Map, Plan, Tensors};

use super::program::Source;

/// Programs of this room.
pub(super) const SOURCES: &[Source] = &[
    Source {
        name: "net",
        text: &[include_str!("number.cu"), include_str!("rows.cu"), include_str!("points.cu")],
        contract: true,
    },
    Source {
        name: "attention",
        text: &[include_str!("number.cu"), include_str!("attention.cu"), include_str!("flash.cu")],
        contract: true,
    },
];

#[cfg(test)]
mod testing {
    use crate::cuda::Device;

    /// The emulation, or none where g++ is missing.
    pub(super) fn device() -> Option<Device> {
        let device = Device::emulated();
        if let Err(why) = &device {
            #[expect(clippy::disallowed_methods, reason = "a test-only switch")]
            let must = std::env::var_os("CURATE_CI").is_some();
            assert!(!must, "{why}");
            eprintln!("SKIPPED: {why}; kernels of models were NOT tested");
        }
        device.ok()
    }
}
