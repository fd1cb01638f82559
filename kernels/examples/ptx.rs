//! Writes the PTX of all kernels into a folder, packed, for builds that carry it (`CURATE_PTX_DIR`) and so need no libnvrtc where they run.
//!
//! `cargo run -p curate-kernels --example ptx -- FOLDER`

use std::path::PathBuf;
use std::{env, fs};

use curate_kernels::cuda::program::{self, ARCHITECTURES, has_nvrtc, sources};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::args_os().nth(1).ok_or("name a folder")?);
    if !has_nvrtc() {
        return Err(
            "libnvrtc was not found; `pip install nvidia-cuda-nvrtc` and put its lib folder on LD_LIBRARY_PATH".into(),
        );
    }
    fs::create_dir_all(&folder)?;
    for (source, capability) in sources().flat_map(|source| ARCHITECTURES.map(|capability| (source, capability))) {
        let ptx = source.compile(capability)?;
        let (path, packed) =
            (folder.join(format!("{}.compute_{capability}.ptx.gz", source.name)), program::packed(&ptx)?);
        fs::write(&path, &packed)?;
        println!("{} {} bytes of {}", path.display(), packed.len(), ptx.len());
    }
    Ok(())
}
