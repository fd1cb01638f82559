"""Golden files for the Rust tests: the static encoder (this artefact) and MiniLM itself.

    python golden.py --model static-minilm-256.safetensors --out datasets/golden
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np

import artefact
import teacher

LONG = " ".join(random.Random(7).choices("river stone lamp quiet number seven paints the a of walking under green über 42 code-review don't".split(), k=3000))

TEXTS = [
    "",
    " ",
    "\n\t \r\n",
    "a",
    "Hello, world!",
    "Write a short poem about the sea.",
    "Write a short poem about the sea.\nKeep it to four lines.",
    "What is the capital of France?",
    "WHAT IS THE CAPITAL OF FRANCE?",
    "Natalia sold 48 clips in April and half as many in May. How many clips did she sell altogether?",
    "Größe, Straße, café, naïve, Ångström, señor, İstanbul",
    "Cafe\u0301 with a combining accent",
    "日本語の文章を英語に翻訳してください。",
    "请把这句话翻译成英文：今天天气很好。",
    "한국어 문장을 번역해 주세요.",
    "Переведите это предложение на английский язык.",
    "ترجم هذه الجملة إلى الإنجليزية",
    "इस वाक्य का अनुवाद करें",
    "Great job 👍🏽 🎉🎉 and a family 👨‍👩‍👧",
    "😀😀😀",
    "!!! ??? ... --- ;;; \"\" '' () [] {} <> /\\ @#$%^&*",
    ".",
    "x" * 99,
    "x" * 101,
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "def add(a, b):\n    return a + b\n",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name;",
    "fn main() { println!(\"{}\", 1_000 << 3); }",
    "<p class=\"note\">Tea &amp; biscuits</p>",
    "{\"name\": \"search\", \"arguments\": {\"query\": \"best pizza\", \"limit\": 5}}",
    "Solve $\\frac{x^2 - 1}{x + 1} = 3$ for $x \\in \\mathbb{R}$.",
    "E=mc² and H₂O at 20 °C cost ½ of €3.50",
    "https://example.org/a/b?c=1&d=%20#top user@example.com",
    "state-of-the-art don't can't we'll it's",
    "zero\u200bwidth\u00a0space\u3000ideographic\ufeffbom",
    "control\u0000\u0001\u0007 characters \ufffd here",
    "ﬁne ligatures, Ⅷ roman, ＦＵＬＬ ｗｉｄｔｈ",
    "Is the following sentence plausible? \"The goalkeeper scored a touchdown.\"",
    "Summarise the passage below in one sentence.\nThe lighthouse was built in 1887 and rebuilt after the storm of 1921; it has been dark since 1974.",
    LONG,
]
FULL = (5, 9, 13, 25, 39)  # whole vector

SENTENCES = [
    "The kettle began to whistle before anyone was awake.",
    "A whistling kettle woke the whole house.",
    "Prices of copper rose for the third week in a row.",
    "List three reasons why bread dough might not rise.",
    "How many apples are left if nine of twenty-four are eaten?",
    "def area(r):\n    return 3.14159 * r ** 2",
    "Der Zug nach München fährt um halb neun ab.",
    "Café déjà vu: naïve coöperation, 20 °C, ½ litre",
    "今日は図書館で静かに本を読みました。",
    "Well done 🎉 see you at 7pm!",
    "ok",
    "The old bridge crosses the river twice because the river bends like a hairpin there. " * 20,
]


def main() -> None:
    a = argparse.ArgumentParser()
    for f in ("--model", "--out"):
        a.add_argument(f, type=Path, required=True)
    a = a.parse_args()
    enc = artefact.StaticEncoder(a.model, teacher.tokenizer(None))
    assert len(TEXTS) == 40
    rows = []
    for n, text in enumerate(TEXTS):
        pooled, ids = enc.pool_ids(enc.ids(text)), enc.tok.encode(text, add_special_tokens=False).ids
        norm, unit = float(np.linalg.norm(pooled.astype(np.float64))), artefact.unit(pooled)
        row = {"text": text, "ids": ids, "used": len(enc.ids(text)), "norm": norm, "head": unit[:8].tolist()}
        if n in FULL:
            row["embedding"] = unit.tolist()
        rows.append(row)
    description = (
        "{description, model, rows: [{text, ids, used, norm, head, embedding?}]}. The static encoder by golden.py (numpy), for the "
        "artefact with the metadata in `model`. ids: package `tokenizers`, no special tokens, before the cut at max_tokens and before "
        "[UNK] (100) is dropped; used: tokens left after the cut at max_tokens and then, if skip_unk, without [UNK]; norm: length of "
        "mean + bias before normalisation; head: first 8 components of the unit vector; embedding: all of them, in five rows. "
        "No token left: the bias alone, normalised (if that is zero: the first unit vector). Tolerance: 1e-5 a component."
    )
    save(a.out / "static_encoder/static.json", {"description": description, "model": enc.meta, "rows": rows})

    lm = teacher.MiniLM()
    vec = lm.embed(SENTENCES)
    description = (
        "{description, rows: [{text, ids, embedding}]}. all-MiniLM-L6-v2 in f32 by teacher.py (plain PyTorch, checked against "
        "transformers' BertModel): mean over all tokens, then L2 norm, 384 numbers. ids: with [CLS] and [SEP], truncated at 256 "
        "in all, unpadded. Tolerance: 1e-4 a component."
    )
    rows = [{"text": t, "ids": lm.tok.encode(t).ids, "embedding": v.tolist()} for t, v in zip(SENTENCES, vec)]
    save(a.out / "minilm/minilm.json", {"description": description, "rows": rows})


def save(path: Path, value) -> None:
    """One row a line, floats rounded to nine significant digits (exact for f32)."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def tidy(v):
        if isinstance(v, float):
            return float(f"{v:.9g}")
        if isinstance(v, list):
            return [tidy(x) for x in v]
        return {k: tidy(x) for k, x in v.items()} if isinstance(v, dict) else v

    rows = ",\n".join(json.dumps(tidy(r)) for r in value["rows"])
    head = {k: v for k, v in value.items() if k != "rows"}
    path.write_text(json.dumps(head)[:-1] + ', "rows": [\n' + rows + "\n]}\n")


if __name__ == "__main__":
    main()
