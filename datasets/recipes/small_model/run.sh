#!/usr/bin/env bash
# The small language model inside the binary: split the corpus, train from nothing, judge, compare with counts of words.
# About 50 minutes on two idle cores. Needs Python with pyarrow, numpy and tokenizers for the split and the counts.
#   datasets/recipes/small_model/run.sh MIXED.parquet OUT_FOLDER
set -euo pipefail
corpus=$(realpath "${1:?name the corpus}") out=${2:?name a folder}
mkdir -p "$out" && out=$(realpath "$out")
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
recipe=datasets/recipes/small_model
cargo build --release --workspace --bins
curate=target/release/curate
PYTHONHASHSEED=0 python3 $recipe/split.py "$corpus" "$out"
mkdir -p "$out/model" && cp $recipe/config.json "$out/model/"
"$curate" train "$out/train.parquet" --model "$out/model" --from-scratch -o "$out/run" --packing -O loss_on=all --max-length 1024 \
    --batch-size 8 --max-steps 1700 --lr 2.5e-3 -O adam_beta2=0.98 -O weight_decay=0.1 -O warmup_steps=100 -O save_steps=50 --seed 1 \
    --cache "$out/cache" --resume
"$curate" eval "$out/held.parquet" --model "$out/run/model" --loss-on all
python3 $recipe/ngram.py "$out/train.parquet" "$out/held.parquet" "$out/run/model/tokenizer.json"
echo "to ship it: cp $out/run/model/{model.safetensors,tokenizer.json} datasets/models/small-lm/"
