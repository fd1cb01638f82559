#!/usr/bin/env bash
# Methods that are told nothing of the wrong half, at equal steps: offline and online beside random. About five minutes on two cores.
#   datasets/recipes/planted_noise/compare.sh OUT_FOLDER     (after run.sh OUT_FOLDER, which makes the rows and the model's shape)
set -euo pipefail
out=${1:?name the folder of run.sh}
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
target/release/curate compare "$out/noisy.jsonl" --methods kmeans-quality,uds,max-loss --candidates 128 --budget 11000 --model "$out/model" --from-scratch \
    --seeds 1,2,3 --lr 1e-3 --batch-size 64 --max-length 48 --max-steps 300 -O warmup_steps=50 -O min_lr_ratio=0.1 -O adam_beta2=0.98 -O eval_steps=300 \
    --judge number --max-new-tokens 6 --eval "$out/test.jsonl" -o "$out/compared" --cache "$out/cache"
