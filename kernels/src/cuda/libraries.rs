//! The libraries that work on a GPU needs: found or not, which version, and what to install. Opens no device.

use std::ffi::c_int;

use cudarc::cublas::sys as blas;
use cudarc::driver::sys as driver;

use super::program::{has_nvrtc, nvrtc_version};

/// A library that is loaded at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// What it is to us: `driver`, `compiler`, `cublas`.
    pub name: &'static str,
    /// Its file.
    pub file: &'static str,
    /// Major, minor and patch version where it was found; zeros where it does not tell.
    pub version: Option<[i32; 3]>,
    /// Where it comes from.
    pub cure: &'static str,
}

/// The driver, the run-time compiler and the library of matrix products.
#[must_use]
pub fn libraries() -> [Library; 3] {
    let compiler = has_nvrtc().then(nvrtc_version);
    [
        Library {
            name: "driver",
            file: "libcuda.so.1",
            version: driver_version(),
            cure: "install the NVIDIA driver, version 580 or newer",
        },
        Library {
            name: "compiler",
            file: "libnvrtc.so.13",
            version: compiler.map(|version| [version / 1000, version % 1000, 0]),
            cure: "install CUDA 13 or `pip install nvidia-cuda-nvrtc` and put its lib folder on LD_LIBRARY_PATH",
        },
        Library {
            name: "cublas",
            file: "libcublas.so.13",
            version: blas_version(),
            cure: "install CUDA 13 or `pip install nvidia-cublas` and put its lib folder on LD_LIBRARY_PATH",
        },
    ]
}

/// The version of CUDA that the driver serves.
fn driver_version() -> Option<[i32; 3]> {
    // SAFETY: tries to load the library and nothing else.
    if !unsafe { driver::is_culib_present() } {
        return None;
    }
    let mut version = 0;
    // SAFETY: the library was found; the place is valid.
    let _ = unsafe { driver::cuDriverGetVersion(&raw mut version) };
    Some([version / 1000, version % 1000 / 10, 0])
}

fn blas_version() -> Option<[i32; 3]> {
    use blas::libraryPropertyType_t as Part;
    // SAFETY: tries to load the library and nothing else.
    if !unsafe { blas::is_culib_present() } {
        return None;
    }
    let part = |part: Part| {
        let mut value: c_int = 0;
        // SAFETY: the library was found; the place is valid.
        let _ = unsafe { blas::cublasGetProperty(part, &raw mut value) };
        value
    };
    Some([part(Part::MAJOR_VERSION), part(Part::MINOR_VERSION), part(Part::PATCH_LEVEL)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_and_a_cure() {
        let all = libraries();
        assert_eq!(all.each_ref().map(|library| library.name), ["driver", "compiler", "cublas"]);
        assert_eq!(all[1].version.is_some(), has_nvrtc());
        assert!(all.iter().all(|library| library.cure.contains("install")));
        assert!(all.iter().filter_map(|library| library.version).all(|[major, ..]| major >= 0));
    }
}
