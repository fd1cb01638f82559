"""What the encoder is judged by."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score


def neighbours(x: np.ndarray, k: int = 10) -> np.ndarray:
    out = np.empty((len(x), k), np.int64)
    for s in range(0, len(x), 1024):
        sims = x[s : s + 1024] @ x.T
        sims[np.arange(len(sims)), np.arange(s, s + len(sims))] = -np.inf
        out[s : s + 1024] = np.argpartition(-sims, k, axis=1)[:, :k]
    return out


def overlap_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Share of b's neighbours that are a's too, a row each; a and b are index lists of `neighbours`."""
    return (a[:, :, None] == b[:, None, :]).any(2).mean(1)


def nmi(x: np.ndarray, labels, k: int, seeds: int = 5) -> tuple[float, float]:
    """NMI (arithmetic) of k-means clusters with the labels: mean and sd over seeds."""
    v = [normalized_mutual_info_score(labels, KMeans(k, n_init=1, random_state=s).fit_predict(x)) for s in range(seeds)]
    return float(np.mean(v)), float(np.std(v, ddof=1))


def cosine_correlation(a: np.ndarray, b: np.ndarray, pairs: int = 200_000) -> float:
    """Pearson correlation of the cosines of random pairs."""
    rng = np.random.default_rng(0)
    i, j = rng.integers(len(a), size=(2, pairs))
    i, j = i[i != j], j[i != j]
    return float(np.corrcoef((a[i] * a[j]).sum(1), (b[i] * b[j]).sum(1))[0, 1])
