"""Texts, split by the hash of the text itself: the same string lands in the same part wherever it occurs."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pyarrow.parquet as pq

TEST, DEV = range(0, 5), range(5, 8)  # buckets of 100


def bucket(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100


def part(text: str) -> str:
    b = bucket(text)
    return "test" if b in TEST else "dev" if b in DEV else "train"


def prompt(instruction: str | None, input: str | None) -> str:
    """The text curate embeds for an Alpaca row: instruction, newline, input if there is one."""
    instruction, input = instruction or "", input or ""
    return f"{instruction}\n{input}" if input else instruction


def unique(rows):
    """Keeps the first of equal texts; rows are (text, label)."""
    seen, out = set(), []
    for text, label in rows:
        if text.strip() and text not in seen:
            seen.add(text)
            out.append((text, label))
    return out


def mixed(data: Path):
    """(prompt, source) of corpus/mixed.parquet, repeats removed, in file order."""
    t = pq.read_table(data / "corpus/mixed.parquet", columns=["instruction", "input", "source"])
    cols = [t[c].to_pylist() for c in ("instruction", "input", "source")]
    return unique((prompt(i, x), s) for i, x, s in zip(*cols))


def train_extra(data: Path):
    """Further training texts: answers of the mixed corpus and mathematics problems. Neither chat/ nor eval/ nor rec/."""
    t = pq.read_table(data / "corpus/mixed.parquet", columns=["output"])
    rows = [(o, "answer") for o in t["output"].to_pylist() if o and len(o) >= 20]
    for f in ("math/deepscaler_math_train.parquet", "math/deepscaler_aime_train.parquet"):
        rows += [(p, "math") for p in pq.read_table(data / f, columns=["problem"])["problem"].to_pylist()]
    return unique(rows)


def out_of_domain(data: Path):
    """{name: [(text, label)]}: sets that training never draws from; labels where the set has them."""
    t = pq.read_table(data / "eval/bbh.parquet")
    bbh = unique(zip(t["input"].to_pylist(), t["task"].to_pylist()))
    chat = []
    for row in pq.read_table(data / "chat/taskmaster4_messages.parquet")["messages"].to_pylist():
        chat.append(("\n".join(m["content"] or "" for m in row), "taskmaster4"))
    for row in json.loads((data / "chat/glaive_toolcall_sharegpt.json").read_text()):
        chat.append(("\n".join(m["value"] or "" for m in row["conversations"] if m["from"] == "human"), "glaive"))
    for line in (data / "chat/messages_parts.jsonl").read_text().splitlines():
        text = [p.get("value", "") for m in json.loads(line)["messages"] if m["role"] == "user" for p in m["content"]]
        chat.append(("\n".join(t for t in text if isinstance(t, str)), "parts"))
    return {"chat": unique(chat), "bbh": bbh}


def word_mixtures(vocab: list[str], n: int, seed: int):
    """Short bags of whole vocabulary words, so that words the corpora lack are taught in company too."""
    rng = random.Random(seed)
    words = [w for w in vocab if w.isalpha() and len(w) > 1]
    return [(" ".join(rng.sample(words, rng.randint(2, 6))), "words") for _ in range(n)]
