"""Cut the corpus into what the small model learns from and what it is judged by.

    python split.py CORPUS.parquet OUT_FOLDER

Held out are the rows whose SHA-256 of `id` is lowest. A row is left out of training when it repeats another, or when it shares
a run of 24 words with a row held out; runs that more than 20 rows of the corpus have in common are a template's words and do not
count. Two fifths of `p3_t0` are kept: the source is three quarters of the corpus, and puts one passage under several templates.
A third file, `rest`, keeps repeats and all of `p3_t0`: the corpus as it is, but for what touches the rows held out.
"""
import collections
import hashlib
import sys

import pyarrow.compute as pc
import pyarrow.parquet as pq

HELD_ROWS, RUN, TEMPLATE_ROWS, P3_SHARE = 2000, 24, 20, 0.4
TEXT = ("instruction", "input", "output")


def digest(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def runs(row):
    words = " ".join(row[name] or "" for name in TEXT).lower().split()
    return {hash(tuple(words[i : i + RUN])) for i in range(max(len(words) - RUN + 1, 0))}


def main(corpus, out):
    table = pq.read_table(corpus)
    rows = table.to_pylist()
    order = sorted(range(len(rows)), key=lambda i: (digest(rows[i]["id"]), i))
    held = set(order[:HELD_ROWS])
    of_held = set().union(*(runs(rows[i]) for i in held))
    seen = collections.Counter()
    shared = {}
    for i, row in enumerate(rows):
        common = runs(row) & of_held
        seen.update(common)
        if common and i not in held:
            shared[i] = common
    kept, rest = [], []
    judged = {tuple(rows[i][name] for name in TEXT) for i in held}
    whole = set(judged)
    for i, row in enumerate(rows):
        text = tuple(row[name] for name in TEXT)
        if i in held or text in judged or any(seen[run] <= TEMPLATE_ROWS for run in shared.get(i, ())):
            continue
        rest.append(i)
        if text in whole:
            continue
        if row["source"] == "p3_t0" and digest("share " + row["id"]) / 2**64 >= P3_SHARE:
            continue
        whole.add(text)
        kept.append(i)
    for name, chosen in (("train", kept), ("rest", rest), ("held", sorted(held))):
        part = table.take(chosen)
        size = sum(pc.sum(pc.binary_length(part[c])).as_py() for c in TEXT)
        pq.write_table(part, f"{out}/{name}.parquet", compression="zstd", row_group_size=4096)
        print(f"{name}: {len(chosen)} rows, {size / 1e6:.1f} MB of text")


main(*sys.argv[1:])
