#!/usr/bin/env bash
# What knowing the wrong rows is worth: a small model trained from nothing on number tasks, half of whose answers are wrong, once on
# random rows and once on as many right ones (a hidden column tells), three seeds. About six minutes on two cores.
#   datasets/recipes/planted_noise/run.sh OUT_FOLDER
set -euo pipefail
out=${1:?name a folder for the models}
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
cargo build --release --workspace --bins --examples
curate=target/release/curate tasks=target/release/examples/tasks
mkdir -p "$out/model"
cat > "$out/model/config.json" <<'J'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 280, "hidden_size": 128, "intermediate_size": 344,
 "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
 "rms_norm_eps": 1e-5, "initializer_range": 0.02, "hidden_act": "silu"}
J
questions=(numbers --digits 3 --tasks max-integer,digit_max-integer)
"$tasks" "${questions[@]}" --rows 24000 --wrong 0.5 --seed 1 > "$out/noisy.jsonl"
"$tasks" "${questions[@]}" --rows 1000 --side test --seed 2 > "$out/test.jsonl"
options=(--budget 11000 --method random --model "$out/model" --from-scratch --lr 1e-3 --batch-size 64 --max-length 48 --max-steps 600
    -O warmup_steps=100 -O min_lr_ratio=0.1 -O adam_beta2=0.98 --no-cache --quiet)
for seed in 1 2 3; do
    "$curate" train "$out/noisy.jsonl" "${options[@]}" --seed $seed -o "$out/random$seed"
    "$curate" train "$out/noisy.jsonl" "${options[@]}" --seed $seed -o "$out/right$seed" --where "\"truth.kind\" = 'clean'"
    for arm in random right; do
        echo "seed $seed, $arm rows"
        "$curate" eval "$out/test.jsonl" --model "$out/$arm$seed/model" --judge number --max-new-tokens 6 --quiet --by task
    done
done
