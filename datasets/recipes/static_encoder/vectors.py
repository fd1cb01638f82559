"""Stage 1: teacher embeddings, cached as .npy in the work folder (held-out sets in f32, training texts in bf16 arithmetic)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch

import corpus
import teacher

SHARD = 8192


def vocab() -> list[str]:
    v = teacher.tokenizer(None).get_vocab()
    return sorted(v, key=v.get)


def held_out(data: Path):
    """{name: [(text, label)]} that no training step reads; `dev` serves choices, the rest is only reported."""
    m = corpus.mixed(data)
    sets = {p: [r for r in m if corpus.part(r[0]) == p] for p in ("dev", "test")}
    return sets | corpus.out_of_domain(data)


def training(data: Path, words: int = 24_000, seed: int = 1):
    """All training texts in a fixed shuffled order, P3 (near half of the corpus) thinned to the back."""
    banned = {t for rows in corpus.out_of_domain(data).values() for t, _ in rows}
    rows = corpus.mixed(data) + corpus.train_extra(data) + corpus.word_mixtures(vocab(), words, seed)
    rows = [r for r in corpus.unique(rows) if corpus.part(r[0]) == "train" and r[0] not in banned]
    random.Random(seed).shuffle(rows)
    p3 = [r for r in rows if r[1] == "p3_t0"]
    late = set(map(id, p3[20_000:]))
    return [r for r in rows if id(r) not in late] + p3[20_000:]


def cached(path: Path, make) -> np.ndarray:
    if not path.exists():
        tmp = path.with_suffix(".part.npy")
        np.save(tmp, make())
        tmp.rename(path)
    return np.load(path)


def tokens(work: Path) -> np.ndarray:
    """MiniLM of [CLS] token [SEP] for every id: where an unseen token stays."""
    return cached(work / "tokens.npy", lambda: teacher.MiniLM().embed_ids([[101, i, 102] for i in range(len(vocab()))]))


def held_out_vectors(work: Path, name: str, rows) -> np.ndarray:
    return cached(work / f"held_{name}.npy", lambda: teacher.MiniLM().embed([t for t, _ in rows], log=name))


def training_vectors(work: Path, rows, make: bool = True) -> np.ndarray:
    """Shard by shard; with make=False whatever shards are there already (a prefix of the rows)."""
    lm, out = None, []
    for s in range(0, len(rows), SHARD):
        path = work / f"train_{s // SHARD:03d}.npy"
        if not path.exists():
            if not make:
                break
            lm = lm or teacher.MiniLM(torch.bfloat16)
        out.append(cached(path, lambda: lm.embed([t for t, _ in rows[s : s + SHARD]], log=path.stem)))
    return np.concatenate(out)


def main(data: Path, work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    tokens(work)
    for name, rows in held_out(data).items():
        held_out_vectors(work, name, rows)
    training_vectors(work, training(data))
