#!/usr/bin/env bash
# The binary with its GPU programs compiled ahead, so that where it runs it needs the driver and cuBLAS, but no run-time compiler.
#   kernels/build-cuda.sh [PROFILE]     (dist by default)
# Fetches NVIDIA's run-time compiler by name and version (90 MB, a Python wheel; nothing of it goes into the binary), writes the PTX of every
# program for compute 7.5, 8.0, 9.0 and 10.0 (later chips take the last), packed, and builds with them. No GPU, no driver and no nvcc are needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${1:-dist} python=${PYTHON:-python3} version=13.0.88
target=${CARGO_TARGET_DIR:-target}
wheel=$target/cuda/nvrtc-$version ptx=$target/cuda/ptx
if ! ls "$wheel"/nvidia/*/lib/libnvrtc.so.13 >/dev/null 2>&1; then
    "$python" -m pip install --quiet --no-deps --target "$wheel" "nvidia-cuda-nvrtc==$version"
fi
export LD_LIBRARY_PATH="$(dirname "$(ls "$PWD/$wheel"/nvidia/*/lib/libnvrtc.so.13 "$wheel"/nvidia/*/lib/libnvrtc.so.13 2>/dev/null | head -1)")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Functions that are the same code become one; only lld, the linker on this platform, can do that.
if [ "$(uname -sm)" = "Linux x86_64" ]; then
    export RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }-Clink-arg=-Wl,--icf=all"
fi
rm -rf "$ptx"
cargo run --profile "$profile" -p curate-kernels --example ptx -- "$ptx"
CURATE_PTX_DIR=$(cd "$ptx" && pwd) cargo build --profile "$profile" --workspace --bin curate
[ "$profile" = dev ] && profile=debug
strip -o "$target/cuda/curate" "$target/$profile/curate"
echo "$target/cuda/curate: $(($(stat -c %s "$target/cuda/curate") >> 20)) MiB stripped, $(du -ch "$ptx"/*.ptx.gz | tail -1 | cut -f1) of it PTX for compute 7.5, 8.0, 9.0 and 10.0"
