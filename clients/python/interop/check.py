"""Trains from a live server, kills trainer and server at random moments, resumes, and compares with an unbroken run.

    python check.py path/to/curate [--seed N] [--only hf,accumulate,trl,loop]

For every case: each row of every life, its loss to the last bit, and the final weights equal those of the run nobody killed. Both sides die by SIGKILL.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from curate_client import Client  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
STEPS, SAVE, BATCH = 40, 7, 8
CASES: Dict[str, List[str]] = {"hf": [], "accumulate": ["--rows", "4", "--accumulate", "2"], "trl": ["--trl"], "loop": []}


class Failed(Exception):
    """What the check found."""


class Server:
    """`curate serve`, which can be killed and started again on the same port."""

    def __init__(self, binary: str, work: Path) -> None:
        self.binary, self.work = binary, work
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> None:
        command = [self.binary, "serve", "--bind", f"127.0.0.1:{self.port}", "--data", str(self.work / "server"), "--allow", str(self.work), "--log-level", "warn"]
        with (self.work / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.work)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def corpus(path: Path, rows: int = 400) -> None:
    """Rows of a few kinds, so that there are clusters to tell apart."""
    kinds = [("Add {a} and {b}.", "{a} plus {b} is {c}."), ("Name the colour number {a}.", "Colour {a} is grey."), ("Repeat {b} twice.", "{b} {b}"), ("Which is more, {a} or {b}?", "It is {m}.")]
    with path.open("w") as file:
        for n in range(rows):
            a, b = n * 7 % 97, n * 13 % 89
            question, answer = (text.format(a=a, b=b, c=a + b, m=max(a, b)) for text in kinds[n % len(kinds)])
            file.write(json.dumps({"instruction": question, "output": answer}) + "\n")


def trainer(case: str, session: str, server: Server, work: Path) -> List[str]:
    """The command of a trainer."""
    out = work / session
    if case == "loop":
        example = HERE.parent.parent / "examples" / "pytorch_loop.py"
        return [sys.executable, str(example), server.url, session, str(work / "spec.json"), str(work / "model"), f"{out}.pt", str(STEPS)]
    return [
        sys.executable, str(HERE / "train.py"), "--url", server.url, "--session", session, "--spec", str(work / "spec.json"), "--out", str(out),
        "--model", str(work / "model"), "--trace", str(trace(work, session)), "--steps", str(STEPS), "--save", str(SAVE), *CASES[case],
    ]


def trace(work: Path, session: str) -> Path:
    return work / f"{session}.jsonl"


def lines(work: Path, session: str) -> List[List[Any]]:
    """Rows that were trained on; a line cut short by a kill is left out. The example's loop prints them, without losses."""
    traced, printed = trace(work, session), work / f"{session}.log"
    if traced.exists():
        return [entry for line in traced.read_text().splitlines() for entry in [parsed(line)] if entry]
    found = [re.fullmatch(r"(\d+) (\[[\d, ]+\])", line) for line in (printed.read_text().splitlines() if printed.exists() else [])]
    return [[int(match[1]), int(match[1]), row, 0.0] for match in found if match for row in json.loads(match[2])]


def parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def weights(work: Path, case: str, session: str) -> Any:
    """The final weights, as something that can be compared."""
    if case != "loop":
        return (work / session / "final" / "model.safetensors").read_bytes()
    import torch

    return {name: tensor.tolist() for name, tensor in torch.load(work / f"{session}.pt")["model"].items()}


def run(command: List[str], work: Path, session: str, server: Server, trainer_dies: List[int], server_dies: List[int], dice: random.Random) -> int:
    """Run a trainer until it ends well, killing it and the server when as many rows were trained; how often something died."""
    deaths = 0
    while True:
        with (work / f"{session}.log").open("ab") as log:
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, cwd=work)
        while process.poll() is None:
            done = len(lines(work, session))
            if server_dies and done >= server_dies[0]:
                server_dies.pop(0)
                time.sleep(dice.random() * 0.05)
                server.kill()
                time.sleep(dice.random())
                server.start()
                deaths += 1
            if trainer_dies and done >= trainer_dies[0]:
                trainer_dies.pop(0)
                time.sleep(dice.random() * 0.05)
                process.kill()
                deaths += 1
            time.sleep(0.002)
        if process.returncode == 0:
            return deaths
        if process.returncode != -signal.SIGKILL:
            raise Failed(f"the trainer ended with {process.returncode}:\n" + "\n".join((work / f"{session}.log").read_text().splitlines()[-15:]))


def by_step(found: List[List[Any]]) -> Dict[int, List[Any]]:
    """Rows and losses of each optimizer step. A step is trained again after a resume: every life must agree with the others as far as it came."""
    pieces: List[Tuple[int, List[Any]]] = []
    for step, _, row, loss in found:
        if not pieces or pieces[-1][0] != step or any(row == seen for seen, _ in pieces[-1][1]):
            pieces.append((step, []))
        pieces[-1][1].append([row, loss])
    steps: Dict[int, List[Any]] = {}
    for step, piece in pieces:
        shorter, longer = sorted((steps.get(step, piece), piece), key=len)
        if longer[: len(shorter)] != shorter:
            raise Failed(f"two lives differ in step {step}: {shorter} and {longer}")
        steps[step] = longer
    return steps


def check(case: str, server: Server, work: Path, dice: random.Random) -> str:
    """One case, whole and broken."""
    rows = STEPS * BATCH
    for session, (trainers, servers) in ((f"{case}-whole", (0, 0)), (f"{case}-broken", (3, 4))):
        dies = [sorted(dice.sample(range(1, rows), n)) for n in (trainers, servers)]
        deaths = run(trainer(case, session, server, work), work, session, server, *dies, dice)
    whole, broken = (by_step(lines(work, f"{case}-{kind}")) for kind in ("whole", "broken"))
    if [len(whole.get(step, ())) for step in range(1, STEPS + 1)] != [BATCH] * STEPS:
        raise Failed(f"the unbroken run did not train on {BATCH} rows in each of {STEPS} steps")
    for step in whole:
        if whole[step] != broken.get(step):
            raise Failed(f"step {step} differs:\n  whole  {whole[step]}\n  broken {broken.get(step)}")
    if weights(work, case, f"{case}-whole") != weights(work, case, f"{case}-broken"):
        raise Failed("the final weights differ")
    histories = [history(server, f"{case}-{kind}") for kind in ("whole", "broken")]
    if histories[0] != histories[1] or len(histories[0]) != STEPS:
        differ = [pair for pair in zip(*histories) if pair[0] != pair[1]]
        raise Failed(f"the server remembers {len(histories[0])} and {len(histories[1])} steps, {len(differ)} of them differ, such as {differ[:1]}")
    again = len(lines(work, f"{case}-broken")) - rows
    return f"{case}: {STEPS} steps of {BATCH} rows, {deaths} kills, {again} rows trained again after resumes; rows, losses and weights equal"


def history(server: Server, session: str) -> List[Any]:
    """What the server says was handed out and fed back."""
    return [[point["step"], point["rows"], point["fed"], point["signals"], point["groups"]] for point in Client(server.url).session(session).history()]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", action="store_true")
    chosen = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="curate-interop-"))
    corpus(work / "data.jsonl")
    subprocess.run([sys.executable, str(HERE / "model.py"), str(work / "model")], check=True)
    plan = {"input": {"paths": [str(work / "data.jsonl")]}, "seed": 17, "online": {"use": "kmeans-refine", "k": 8}}
    spec = {"plan": plan, "batch": BATCH, "render": "tokens", "tokenizer": str(work / "model"), "max_length": 128}
    (work / "spec.json").write_text(json.dumps(spec))
    server, dice = Server(str(Path(chosen.binary).resolve()), work), random.Random(chosen.seed)
    print(f"seed {chosen.seed}, files in {work}", flush=True)
    server.start()
    try:
        for case in chosen.only.split(",") if chosen.only else CASES:
            if case == "trl" and importlib.util.find_spec("trl") is None:
                print("trl: SKIPPED, trl is not installed", flush=True)
                continue
            print(check(case, server, work, dice), flush=True)
    except Failed as failure:
        print(f"FAILED with seed {chosen.seed}: {failure}", file=sys.stderr)
        return 1
    finally:
        server.kill()
    if not chosen.keep:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
