"""Bits per byte of held-out rows under counts of words: a unigram and an interpolated, modified Kneser-Ney 5-gram.

    python ngram.py TRAIN.parquet HELD.parquet tokenizer.json

Both read the same tokens as the small model, rows rendered alike, every token but a row's first; bytes are those of the text, special tokens
count none. Sources: Kneser and Ney 1995; Chen and Goodman 1998 (discounts from counts of counts, three a level).
"""
import math
import sys

import numpy as np
import pyarrow.parquet as pq
from tokenizers import Tokenizer

ORDER, LONGEST = 5, 1024


def render(row):
    question = row["instruction"] + ("\n\n" + row["input"] if row["input"] else "")
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{row['output']}<|im_end|>\n<|endoftext|>"


def encode(path, tokenizer):
    rows = pq.read_table(path).to_pylist()
    rows = [encoding.ids[:LONGEST] for encoding in tokenizer.encode_batch([render(row) for row in rows])]
    return [ids for ids in rows if len(ids) > 1]


def stream(rows, start):
    """All tokens after one another, a start symbol before each row, and which of them are judged."""
    tokens, judged = [], []
    for ids in rows:
        tokens.append(np.concatenate([np.full(ORDER - 1, start), ids]))
        judged.append(np.concatenate([np.zeros(ORDER, bool), np.ones(len(ids) - 1, bool)]))
    return np.concatenate(tokens).astype(np.int64), np.concatenate(judged)


def shifted(ids):
    return np.concatenate([[-1], ids[:-1]])


class Level:
    """Counts of the n-grams of one length: all of them at the top, distinct left neighbours below."""

    def __init__(self, keys, context, count):
        self.keys = keys
        sizes = int(context.max()) + 1
        total = np.bincount(context, weights=count, minlength=sizes)
        kinds = [np.bincount(context, weights=(count == c), minlength=sizes) for c in (1, 2)]
        kinds.append(np.bincount(context, weights=(count >= 3), minlength=sizes))
        n = [max(np.count_nonzero(count == c), 1) for c in (1, 2, 3, 4)]
        y = n[0] / (n[0] + 2 * n[1])
        discounts = [k + 1 - (k + 2) * y * n[k + 1] / n[k] for k in range(3)]
        discount = np.choose(np.minimum(count, 3).astype(int), [0.0, *discounts])
        self.held = (count - discount) / total[context]
        self.rest = sum(d * kind for d, kind in zip(discounts, kinds)) / np.maximum(total, 1)
        self.known = total > 0

    def find(self, keys):
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where((self.keys[at] == keys) & (keys >= 0), at, -1)


def train(tokens, real, base):
    ids, levels, places = tokens.copy(), [], [None]
    for n in range(1, ORDER + 1):
        key = ids if n == 1 else np.where(shifted(ids) >= 0, shifted(ids) * base + tokens, -1)
        keys, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        places.append((keys, first, inverse, key))
        ids = inverse
    for n in range(1, ORDER + 1):
        keys, first, inverse, _ = places[n]
        if n == ORDER:
            count = np.bincount(inverse[real], minlength=len(keys)).astype(float)
        else:
            longer = places[n + 1][1]
            longer = longer[real[longer]]
            count = np.bincount(inverse[longer], minlength=len(keys)).astype(float)
        use = count > 0
        context = np.zeros(len(keys), int) if n == 1 else shifted(places[n - 1][2])[first]
        level = Level(keys, context[use], count[use])
        level.slot = np.where(use, np.cumsum(use) - 1, -1)
        levels.append(level)
    return levels


def judge(levels, tokens, judged, base, vocab):
    p, ids = np.full(len(tokens), 1.0 / vocab), None
    for n, level in enumerate(levels, 1):
        context = np.zeros(len(tokens), int) if n == 1 else shifted(ids)
        key = tokens if n == 1 else np.where(context >= 0, context * base + tokens, -1)
        ids = level.find(key)
        slot = np.where(ids >= 0, level.slot[ids], -1)
        within = (context >= 0) & (context < len(level.known))
        known = within & level.known[np.where(within, context, 0)]
        held = np.where(slot >= 0, level.held[slot], 0.0)
        p = np.where(known, held + level.rest[np.where(known, context, 0)] * p, p)
    return -np.log2(p[judged]).sum()


def main(train_path, held_path, tokenizer_path):
    tokenizer = Tokenizer.from_file(tokenizer_path)
    start = tokenizer.get_vocab_size()
    base = start + 1
    held = encode(held_path, tokenizer)
    special = {tokenizer.token_to_id(name) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")}
    size = sum(len(tokenizer.decode([i for i in ids[1:] if i not in special]).encode()) for ids in held)
    tokens, judged = stream(held, start)
    train_tokens, real = stream(encode(train_path, tokenizer), start)
    levels = train(train_tokens, real, base)
    print(f"{judged.sum()} tokens, {size} bytes held out; {real.sum()} tokens to count")
    count = np.bincount(train_tokens[real], minlength=start)[:start] + 1.0
    alone = -np.log2(count / count.sum())[tokens[judged]].sum()
    for name, bits in (("unigram", alone), (f"{ORDER}-gram", judge(levels, tokens, judged, base, start))):
        print(f"{name}: {bits / size:.4f} bits per byte, {bits * math.log(2) / judged.sum():.4f} nats a token")


main(*sys.argv[1:])
