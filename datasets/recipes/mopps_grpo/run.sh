#!/usr/bin/env bash
# What choosing prompts is worth to a model that learns from its own answers: GRPO on six number tasks, the prompts of every step
# drawn at random or chosen by MoPPS, the same rollouts, five seeds. About twenty minutes on one core; a second call goes on.
#   datasets/recipes/mopps_grpo/run.sh OUT_FOLDER
set -euo pipefail
out=${1:?name a folder for the models}
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
[ -n "${CURATE:-}" ] || cargo build --release --workspace --bins --examples
curate=${CURATE:-target/release/curate} tasks=${TASKS:-target/release/examples/tasks}
mkdir -p "$out/model"
cat > "$out/model/config.json" <<'J'
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 280, "hidden_size": 128, "intermediate_size": 344,
 "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
 "rms_norm_eps": 1e-5, "initializer_range": 0.02, "hidden_act": "silu"}
J
names=max-integer,digit_max-integer,add-integer,sub-integer,digit_add-integer,length-integer
questions=(numbers --digits 3 --tasks $names)
"$tasks" "${questions[@]}" --rows 8000 --seed 1 > "$out/warm.jsonl"
"$tasks" "${questions[@]}" --rows 3000 --seed 11 > "$out/prompts.jsonl"
"$tasks" "${questions[@]}" --rows 1000 --side test --seed 2 > "$out/test.jsonl"
# a start that knows some tasks, half knows others and fails at the rest
[ -d "$out/start/model" ] || "$curate" train "$out/warm.jsonl" --model "$out/model" --from-scratch --lr 1e-3 --batch-size 64 --max-length 48 \
    --max-steps 300 -O warmup_steps=50 -O min_lr_ratio=0.1 -O adam_beta2=0.98 --seed 7 --no-cache --quiet -o "$out/start"
options=(--grpo -O grpo.judge=number -O grpo.num_generations=8 -O grpo.max_completion_length=6 --candidates 3000 --batch-size 64
    --lr 2e-4 --max-length 48 --max-steps 300 -O warmup_steps=10 -O eval_steps=50 --eval "$out/test.jsonl")
for seed in 1 2 3 4 5; do
    for method in random-k mopps; do
        run="$out/$method-$seed"
        [ -f "$run/curate.json" ] || "$curate" train "$out/prompts.jsonl" --model "$out/start/model" --online $method "${options[@]}" \
            --seed $seed --no-cache --quiet --resume -o "$run"
    done
done
python3 datasets/recipes/mopps_grpo/table.py "$out"
