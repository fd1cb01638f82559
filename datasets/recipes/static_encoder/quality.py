"""Measures the artefact against MiniLM on texts that training never read; prints a Markdown table.

    python quality.py --data DATA --work WORK --model static-minilm-256.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

import artefact
import metrics
import teacher
import train
import vectors

KS = (16, 50, 100)


def shingles(text: str, n: int = 8) -> set[int]:
    w = text.lower().split()
    return {hash(tuple(w[i : i + n])) for i in range(max(1, len(w) - n + 1))}


def fresh(texts: list[str], training: list[str], most: float = 0.25) -> np.ndarray:
    """Texts of whose 8-word runs at most a quarter occur anywhere in training (templates and passages repeat in P3)."""
    known: set[int] = set()
    for t in training:
        known |= shingles(t)
    return np.array([len(s & known) <= most * len(s) for s in map(shingles, texts)])


def static_vectors(enc: artefact.StaticEncoder, texts: list[str]) -> np.ndarray:
    """The reference runtime, a whole set at a time; spot-checked against it."""
    bags = train.Bags(enc.tok.encode_batch(texts, add_special_tokens=False), enc.max_tokens, enc.skip_unk)
    out = bags.embed(enc.scales[:, None] * enc.q.astype(np.float32), enc.bias)
    some = np.flatnonzero(bags.len > 0)[:: max(1, len(texts) // 50)]
    np.testing.assert_allclose(out[some], enc.embed([texts[i] for i in some]), atol=2e-5)
    return out


def main() -> None:
    a = argparse.ArgumentParser()
    for f in ("--data", "--work", "--model"):
        a.add_argument(f, type=Path, required=True)
    a = a.parse_args()

    held = vectors.held_out(a.data)
    training = vectors.training(a.data)
    texts = {n: [t for t, _ in rows] for n, rows in held.items()}
    labels = {n: [s for _, s in rows] for n, rows in held.items()}
    tok = teacher.tokenizer(None)
    enc = artefact.StaticEncoder(a.model, tok)

    encoders: dict[str, dict[str, np.ndarray]] = {}
    gold = {n: vectors.held_out_vectors(a.work, n, rows) for n, rows in held.items()}
    encoders["MiniLM (384)"] = gold
    encoders["static, this artefact (256)"] = {n: static_vectors(enc, t) for n, t in texts.items()}

    bags = {n: train.Bags(tok.encode_batch(t, add_special_tokens=False), 256, True) for n, t in texts.items()}
    sample = vectors.training_vectors(a.work, training, make=False)
    seen = train.Bags(tok.encode_batch([t for t, _ in training[: len(sample)]], add_special_tokens=False), 256, True)
    begin = train.start(vectors.tokens(a.work), train.basis(sample, 256), seen, train.Params.sif)
    encoders["start: PCA + frequency weights, untrained (256)"] = {n: b.embed(begin, np.zeros(256, np.float32)) for n, b in bags.items()}

    words = teacher.MiniLM().words
    encoders["mean of MiniLM's input embeddings (384)"] = {n: b.embed(words, np.zeros(384, np.float32)) for n, b in bags.items()}

    tfidf = TfidfVectorizer(sublinear_tf=True, min_df=3)
    svd = TruncatedSVD(256, random_state=0).fit(tfidf.fit_transform([t for t, s in training if s not in ("words", "answer")]))
    encoders["TF-IDF + SVD, fitted on the training prompts (256)"] = {n: normalize(svd.transform(tfidf.transform(t))) for n, t in texts.items()}

    new = fresh(texts["test"], [t for t, _ in training])
    near = {n: metrics.neighbours(g) for n, g in gold.items()}
    print(f"Texts: test {len(texts['test'])} (of them {new.sum()} fresh), chat {len(texts['chat'])}, BBH {len(texts['bbh'])}, dev {len(texts['dev'])}; training {len(sample)}.\n")
    heads = ["encoder", "10-NN test", "10-NN test, fresh", "10-NN chat", "10-NN BBH", "cosine corr. test", "chat", "BBH"]
    heads += [f"NMI source k={k}" for k in KS] + ["NMI BBH task k=27"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, x in encoders.items():
        over = {n: metrics.overlap_rows(near[n], metrics.neighbours(x[n])) for n in ("test", "chat", "bbh")}
        row = [f"{v:.3f}" for v in (over["test"].mean(), over["test"][new].mean(), over["chat"].mean(), over["bbh"].mean())]
        row += [f"{metrics.cosine_correlation(gold[n], x[n]):.3f}" for n in ("test", "chat", "bbh")]
        row += ["%.3f ± %.3f" % metrics.nmi(x["test"], labels["test"], k) for k in KS]
        row += ["%.3f ± %.3f" % metrics.nmi(x["bbh"], labels["bbh"], 27)]
        print("| " + name + " | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
