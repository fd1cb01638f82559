"""The table of run.sh: python3 table.py OUT_FOLDER. Mean and deviation over seeds."""
import json
import statistics
import sys
from pathlib import Path

out = Path(sys.argv[1])


def mixed(rewards):
    """Share of prompts whose answers were neither all right nor all wrong."""
    return sum(0 < reward < 1 for reward in rewards) / len(rewards)


def figures(run):
    steps = [json.loads(line) for line in (run / "online.jsonl").read_text().splitlines()]
    shares = [mixed(step["signals"]["signal.reward"]) for step in steps]
    quarter = len(shares) // 4
    online = json.loads((run / "curate.json").read_text())["online"]
    parts = statistics.mean(shares), statistics.mean(shares[:quarter]), statistics.mean(shares[-quarter:])
    return [*parts, *[right for _, right in online["evals"]]]


def cell(values):
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {spread:.3f}"


found = {}
for method in ["random-k", "mopps"]:
    found[method] = [figures(run) for run in sorted(out.glob(f"{method}-*")) if (run / "curate.json").is_file()]
steps = [step for step, _ in json.loads((out / "mopps-1/curate.json").read_text())["online"]["evals"]]
heads = ["mixed groups", "first quarter", "last quarter", *[f"right after {step}" for step in steps]]
print("| prompts | seeds | " + " | ".join(heads) + " |")
print("|---" * (2 + len(heads)) + "|")
for method, runs in found.items():
    print(f"| `{method}` | {len(runs)} | " + " | ".join(map(cell, zip(*runs))) + " |")
gains = [chosen[-1] - drawn[-1] for chosen, drawn in zip(found["mopps"], found["random-k"])]
print(f"gain of mopps in right answers at the end, seed by seed: {cell(gains)}")
