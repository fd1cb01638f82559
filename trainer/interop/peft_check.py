"""Reads what the trainer wrote with transformers and PEFT, and compares logits.

    cargo run -p curate-trainer --example interop -- BASE OUT
    python trainer/interop/peft_check.py BASE OUT

Needs torch, transformers, peft and safetensors. Exits with 1 when a difference exceeds 1e-4 of the largest logit.
"""
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def gap(model, tokens, expected):
    with torch.no_grad():
        return float((model(input_ids=tokens).logits - expected).abs().max() / expected.abs().max())


def main(base, out):
    wanted = load_file(out / "logits.safetensors")
    rows = wanted["adapted"].shape[0]
    tokens = wanted["tokens"].long().reshape(rows, -1)
    full = max((out / "full").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    adapted = PeftModel.from_pretrained(load(base), out / "adapter").eval()
    found = {
        "adapter read by PEFT": gap(adapted, tokens, wanted["adapted"]),
        "adapter merged by PEFT": gap(adapted.merge_and_unload(), tokens, wanted["adapted"]),
        "merged folder read by transformers": gap(load(out / "merged"), tokens, wanted["adapted"]),
        "checkpoint read by transformers": gap(load(full), tokens, wanted["full"]),
        "base, which must differ": gap(load(base), tokens, wanted["adapted"]),
    }
    for what, value in found.items():
        print(f"{what}: {value:.2e}")
    differs = found.pop("base, which must differ")
    return 0 if differs > 1e-3 and all(value <= 1e-4 for value in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
