//! Transformers on a device: a decoder that is scored and trained, an encoder of texts.
//!
//! Products go to cuBLAS, everything between them to the kernels here. Nothing adds with atomics and every reduction has a
//! fixed order, so that the same batch gives the same bits on the same device. Not yet measured on a GPU.

mod attention;
mod backward;
mod decoder;
mod devices;
mod encoder;
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
            assert!(std::env::var_os("CURATE_CI").is_none(), "{why}");
            eprintln!("SKIPPED: {why}; kernels of models were NOT tested");
        }
        device.ok()
    }
}
