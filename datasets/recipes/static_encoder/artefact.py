"""The artefact: writing, reading, and the reference runtime (numpy) that the Rust encoder must agree with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

UNK = 100


def quantise(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    peak = np.abs(table).max(1)
    scales = (peak / 127.0).astype(np.float32)
    q = np.rint(table / np.where(scales > 0, scales, 1)[:, None])
    return np.clip(q, -127, 127).astype(np.int8), scales


def write(path: Path, table: np.ndarray, bias: np.ndarray, vocab: list[str], meta: dict[str, str]) -> None:
    q, scales = quantise(table)
    tensors = {
        "embeddings": q,
        "scales": scales,
        "bias": bias.astype(np.float32),
        "vocab": np.frombuffer("\n".join(vocab).encode(), np.uint8),
    }
    meta = {"dim": str(table.shape[1]), "lowercase": "true", "pooling": "mean", "normalize": "true"} | meta
    tmp = path.with_suffix(".tmp")
    save_file(tensors, tmp, metadata=meta)
    tmp.chmod(0o644)
    os.replace(tmp, path)


def unit(v: np.ndarray) -> np.ndarray:
    """Length 1; the zero vector becomes the first unit vector."""
    norm = np.linalg.norm(v.astype(np.float64))
    return (v / norm).astype(np.float32) if norm > 0 else np.eye(1, len(v), dtype=np.float32)[0]


class StaticEncoder:
    """embedding = normalise(mean over tokens of scales[t] * embeddings[t] + bias); a text without tokens is its bias alone."""

    def __init__(self, path: Path, tok):
        with safe_open(path, "numpy") as f:
            self.meta = f.metadata()
            self.q, self.scales, self.bias = (f.get_tensor(k) for k in ("embeddings", "scales", "bias"))
            self.vocab = bytes(f.get_tensor("vocab")).decode().split("\n")
        self.max_tokens = int(self.meta["max_tokens"])
        self.skip_unk = self.meta["skip_unk"] == "true"
        self.tok = tok

    def ids(self, text: str) -> list[int]:
        """Truncated to max_tokens first; [UNK] is dropped afterwards."""
        ids = self.tok.encode(text, add_special_tokens=False).ids[: self.max_tokens]
        return [i for i in ids if i != UNK] if self.skip_unk else ids

    def pool_ids(self, ids: list[int]) -> np.ndarray:
        """Before normalisation, accumulated in f32 in token order."""
        acc = np.zeros_like(self.bias)
        for i in ids:
            acc += self.scales[i] * self.q[i].astype(np.float32)
        return acc / np.float32(max(1, len(ids))) + self.bias

    def embed(self, texts: list[str]) -> np.ndarray:
        out = np.stack([self.pool_ids(self.ids(t)) for t in texts])
        return np.stack([unit(v) for v in out])
