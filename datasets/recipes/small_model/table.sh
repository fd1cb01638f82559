#!/usr/bin/env bash
# What choosing 5 % of the mixed corpus is worth to the built-in model: held-out loss at equal steps, three seeds. About 20 minutes on two cores.
#   datasets/recipes/small_model/table.sh MIXED.parquet OUT_FOLDER       (METHODS=uds,max-loss,... for others)
# Needs Python with pyarrow for the split.
set -euo pipefail
corpus=$(realpath "${1:?name the corpus}") out=${2:?name a folder}
mkdir -p "$out" && out=$(realpath "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
cargo build --release --workspace --bins
PYTHONHASHSEED=0 python3 datasets/recipes/small_model/split.py "$corpus" "$out"
python3 -c "
import pyarrow.parquet as pq
pq.write_table(pq.read_table('$out/held.parquet').slice(0, 1000), '$out/held1k.parquet')"
target/release/curate compare "$out/rest.parquet" --methods "${METHODS:-kmeans-quality}" --budget 5% --model builtin --seeds 1,2,3 --lr 3e-4 --max-steps 100 \
    -O eval_steps=50 --batch-size 16 --max-length 512 --eval "$out/held1k.parquet" -o "$out/compared" --cache "$out/cache"
