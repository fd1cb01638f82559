#!/usr/bin/env bash
# A live server and real trainers, killed on both sides: `just interop-http`, or run.sh [python] [curate binary].
# Needs Python with torch, transformers and accelerate; with trl its trainer is checked as well.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$here/../../.."
python="${1:-python3}"
binary="${2:-$root/target/release/curate}"
[ -x "$binary" ] || { (cd "$root" && cargo build --release) && binary="$root/target/release/curate"; }
exec "$python" "$here/check.py" "$binary" "${@:3}"
