"""What the tests share."""

from __future__ import annotations

import unittest
from typing import Any, Dict, List

from curate_client import Client, Feedback, RowStream, Session
from tests.fake_server import FakeServer


def spec(**changes: Any) -> Dict[str, Any]:
    """A session of four rows a step that learns from losses."""
    plan = {name: changes.pop(name) for name in ("steps", "needs", "short_every", "rows") if name in changes}
    return {"plan": {"online": {"name": "fake"}, **plan}, "batch": 4, **changes}


class ServerCase(unittest.TestCase):
    """A test with a fake server and a client of little patience."""

    def setUp(self) -> None:
        self.server = FakeServer()
        self.addCleanup(self.server.stop)
        self.client = self.another()

    def another(self, **options: Any) -> Client:
        """A client that is closed with the test."""
        client = Client(self.server.url, **{"patience_s": 5.0, **options})
        self.addCleanup(client.close)
        return client

    def session(self, id: str = "run", **changes: Any) -> Session:
        return self.client.create_session(spec(**changes), id=id)

    def calls(self, tail: str) -> List[Any]:
        """Bodies of the calls whose path ends so."""
        return [body for _, path, body in self.server.calls if path.endswith(tail)]


def train(session: Session, stream: RowStream, feedback: Feedback, steps: int) -> List[List[int]]:
    """A trainer whose losses follow from step and row: rows of each step."""
    seen = []
    for _ in range(steps):
        first = next(stream)
        drawn = [first] + [next(stream) for _ in range(first.of - 1)]
        seen.append([d.row.row for d in drawn])
        feedback.add(first.step, seen[-1], first.of, {"loss": [loss(first.step, row) for row in seen[-1]]})
        feedback.flush()
    return seen


def loss(step: int, row: int) -> float:
    """A number that depends on step and row."""
    return 1.0 / (1 + step) + row / 1000
