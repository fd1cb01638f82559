#!/usr/bin/env bash
# All methods that can work on number tasks half of whose answers are wrong, offline and online, at equal steps, three seeds. About an hour on
# one core; a second call goes on. Left out: methods that rank by a quality (top-score, deita: nothing here says one), and instructmining,
# which asks for scores of UniEval.
#   datasets/recipes/planted_noise/all.sh OUT_FOLDER     (after run.sh OUT_FOLDER, which makes the rows and the model's shape)
# gotd, goracs, dsir and greats are shown 64 right rows, rho-loss a model trained on 2,000 right rows: they know something of the truth.
set -euo pipefail
out=${1:?name the folder of run.sh}
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
curate=${CURATE:-target/release/curate} tasks=${TASKS:-target/release/examples/tasks}
questions=(numbers --digits 3 --tasks max-integer,digit_max-integer)
"$tasks" "${questions[@]}" --rows 64 --side test --seed 3 > "$out/target.jsonl"
"$tasks" "${questions[@]}" --rows 2000 --seed 4 > "$out/right.jsonl"
options=(--model "$out/model" --from-scratch --lr 1e-3 --batch-size 64 --max-length 48 -O warmup_steps=50 -O min_lr_ratio=0.1 -O adam_beta2=0.98)
[ -d "$out/reference/model" ] || "$curate" train "$out/right.jsonl" "${options[@]}" --max-steps 300 --seed 9 --no-cache --quiet -o "$out/reference"
"$curate" compare "$out/noisy.jsonl" "${options[@]}" --max-steps 200 -O eval_steps=200 --seeds 1,2,3 --budget 11000 --candidates 128 \
    --methods "${METHODS:-kmeans-quality,k-center,facility-location,gotd,goracs,dsir,craig,perplexity,ifd,dealrec,uds,kmeans-refine:rounds=5,greats,max-loss,max-grad-norm,rho-loss,random-k,full-batch}" \
    --target "$out/target.jsonl" --reference "$out/reference/model" --judge number --max-new-tokens 6 --eval "$out/test.jsonl" -o "$out/all" --cache "$out/cache"
