"""Stage 2: the table. One row a token and a bias, so that normalise(mean of rows + bias) has MiniLM's geometry.

Start: MiniLM of [CLS] token [SEP] in the basis of the training vectors' first 256 principal directions, rows shrunk by
a / (a + frequency). Then Adam on: cosine to the projected teacher + cross-entropy of in-batch neighbour distributions (the
teacher's from cosines in all 384 dimensions). Half of a batch is drawn at random, half from one k-means cluster of teacher vectors,
so that a batch holds real neighbours. Rows are pulled towards their start: a token never seen stays there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix

from artefact import UNK


@dataclass
class Params:
    dim: int = 256
    max_tokens: int = 256
    sif: float = 1e-3
    steps: int = 4000
    batch: int = 1024
    cluster: int = 512
    lr: float = 3e-3
    pull: float = 0.01
    drop: float = 0.1
    temperature: float = 0.05
    kl: float = 1.0
    cosine: float = 1.0
    seed: int = 1


class Bags:
    """Token ids of all texts, flat, with offsets; [UNK] left out if asked, texts then empty are kept empty."""

    def __init__(self, encodings, max_tokens: int, skip_unk: bool):
        rows = [np.asarray(e.ids[:max_tokens], np.int64) for e in encodings]
        if skip_unk:
            rows = [r[r != UNK] for r in rows]
        self.len = np.array([len(r) for r in rows])
        self.off = np.concatenate([[0], np.cumsum(self.len)])
        self.flat = np.concatenate(rows)

    def take(self, rows: np.ndarray, drop: float = 0.0, rng=None):
        lens = self.len[rows]
        starts = np.repeat(self.off[rows] - np.concatenate([[0], np.cumsum(lens)[:-1]]), lens)
        ids = self.flat[starts + np.arange(lens.sum())]
        if drop:
            owner = np.repeat(np.arange(len(rows)), lens)
            keep = (rng.random(len(ids)) >= drop) | np.repeat(lens < 4, lens)
            ids, lens = ids[keep], np.bincount(owner[keep], minlength=len(rows))
        return torch.from_numpy(ids), torch.from_numpy(np.concatenate([[0], np.cumsum(lens)[:-1]]))

    def embed(self, table: np.ndarray, bias: np.ndarray) -> np.ndarray:
        w, b = torch.from_numpy(np.ascontiguousarray(table)), torch.from_numpy(bias)
        out = []
        for s in range(0, len(self.len), 4096):
            ids, off = self.take(np.arange(s, min(s + 4096, len(self.len))))
            out.append(F.normalize(F.embedding_bag(ids, w, off, mode="mean") + b, dim=1))
        return torch.cat(out).numpy()


class Mean(torch.autograd.Function):
    """Mean of rows, as a sparse product: torch's own backward of embedding_bag is several times slower on a CPU."""

    @staticmethod
    def forward(ctx, table, ids, offsets):
        ends = np.append(offsets.numpy(), len(ids))
        lens = np.diff(ends)
        share = np.repeat(1.0 / np.maximum(lens, 1), lens).astype(np.float32)
        ctx.m = csr_matrix((share, ids.numpy(), ends), shape=(len(lens), len(table)))
        return torch.from_numpy(ctx.m @ table.detach().numpy())

    @staticmethod
    def backward(ctx, grad):
        return torch.from_numpy(ctx.m.T @ grad.contiguous().numpy()), None, None


def basis(teacher: np.ndarray, dim: int) -> np.ndarray:
    """[384, dim]: first principal directions, mean not removed (cosines are what is kept)."""
    _, vecs = np.linalg.eigh(teacher.T.astype(np.float64) @ teacher)
    return np.ascontiguousarray(vecs[:, ::-1][:, :dim].astype(np.float32))


def start(tokens: np.ndarray, proj: np.ndarray, bags: Bags, sif: float) -> np.ndarray:
    n = np.bincount(bags.flat, minlength=len(tokens)) + 0.5
    freq = n / n.sum()
    return (tokens @ proj * (sif / (sif + freq))[:, None]).astype(np.float32)


def clusters(teacher: np.ndarray, k: int, seed: int) -> list[np.ndarray]:
    from sklearn.cluster import MiniBatchKMeans

    lab = MiniBatchKMeans(k, n_init=1, batch_size=8192, max_iter=20, random_state=seed).fit_predict(teacher)
    return [np.flatnonzero(lab == c) for c in range(k) if (lab == c).sum() >= 32]


def fit(tokens: np.ndarray, teacher: np.ndarray, bags: Bags, p: Params, watch=None, every: int = 500):
    """Returns (table, bias). watch(step, table, bias) is called now and then."""
    torch.manual_seed(p.seed)
    rng = np.random.default_rng(p.seed)
    proj = basis(teacher, p.dim)
    w0 = torch.from_numpy(start(tokens, proj, bags, p.sif))
    table = w0.clone().requires_grad_()
    bias = torch.zeros(p.dim, requires_grad=True)
    full = torch.from_numpy(teacher)
    goal = F.normalize(full @ torch.from_numpy(proj), dim=1)
    live = np.flatnonzero(bags.len > 0)
    groups = [g[bags.len[g] > 0] for g in clusters(teacher, 128, p.seed)]
    weight = np.array([len(g) for g in groups], float) ** 0.75
    weight /= weight.sum()
    opt = torch.optim.Adam([table, bias], lr=p.lr, betas=(0.9, 0.99), fused=True)
    for step in range(p.steps):
        lr = p.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * step / p.steps)) + 1e-6
        opt.param_groups[0]["lr"] = lr
        group = groups[rng.choice(len(groups), p=weight)]
        near = rng.choice(group, min(p.cluster, len(group)), replace=False)
        rows = np.unique(np.concatenate([near, rng.choice(live, p.batch - len(near), replace=False)]))
        ids, off = bags.take(rows, p.drop, rng)
        out = F.normalize(Mean.apply(table, ids, off) + bias, dim=1)
        r = torch.from_numpy(rows)
        loss = p.cosine * (1 - (out * goal[r]).sum(1)).mean()
        if p.kl:
            x = full[r]
            self_ = torch.eye(len(r)) * -1e4
            want = torch.softmax(x @ x.T / p.temperature + self_, 1)
            loss = loss + p.kl * F.cross_entropy(out @ out.T / p.temperature + self_, want)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if p.pull:
            with torch.no_grad():
                table.lerp_(w0, p.pull * lr)
        if watch and (step + 1) % every == 0:
            watch(step + 1, float(loss.detach()), table.detach().numpy(), bias.detach().numpy())
    return table.detach().numpy(), bias.detach().numpy()
