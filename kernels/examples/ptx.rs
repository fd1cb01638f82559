//! Writes the PTX of all kernels into a folder, for builds that carry it (`CURATE_PTX_DIR`) and so need no libnvrtc where they run.
//!
//! `cargo run -p curate-kernels --example ptx -- FOLDER`

use std::path::PathBuf;
use std::{env, fs};

use curate_kernels::cuda::program::{ARCHITECTURES, has_nvrtc, sources};

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
        let path = folder.join(format!("{}.compute_{capability}.ptx", source.name));
        fs::write(&path, &ptx)?;
        println!("{} {} bytes", path.display(), ptx.len());
    }
    Ok(())
}
