"""A server that keeps to the protocol of ``docs/http.md`` in memory, and fails when told to.

What it chooses depends on all feedback it took in, so that a client which sends other signals, or none, gets other rows.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, List, Optional, Tuple


class Refused(Exception):
    """An answer of 400 or more."""

    def __init__(self, status: int, code: str, detail: str, retriable: bool = False) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.retriable = status, code, detail, retriable


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


class FakeSession:
    """One session. ``taken[step][rank]`` is the feedback, ``drawn[step]`` the rows of all ranks."""

    def __init__(self, spec: Dict[str, Any]) -> None:
        self.spec = spec
        self.rows = spec["plan"].get("rows", 1000)
        self.needs = spec["plan"].get("needs", {"before": [], "after": ["signal.loss"]})
        self.batch, self.ranks, self.lag = spec.get("batch", 8), spec.get("ranks", 1), spec.get("lag", 0)
        self.steps_in_all = spec["plan"].get("steps")
        self.drawn: List[List[int]] = []
        self.taken: Dict[Tuple[int, int], Any] = {}
        self.given: Dict[int, Any] = {}
        self.paused = False
        self.factor = 1.0
        self.changes: List[str] = []

    def info(self) -> Dict[str, Any]:
        return {
            "id": self.spec["id"], "status": "ready", "method": "fake", "kind": "online", "seed": 0, "batch": self.batch, "ranks": self.ranks, "lag": self.lag,
            "rows": self.rows, "step": len(self.drawn), "observed": self.observed(), "epoch": 0, "epochs": None, "paused": self.paused, "render": "columns",
            "needs": self.needs, "brings_candidates": False, "cursor": self.cursor(len(self.drawn)), "progress": None, "error": None, "spec": self.spec,
        }

    def observed(self) -> int:
        step = 0
        while all((step + 1, rank) in self.taken for rank in range(self.ranks)):
            step += 1
        return step

    def cursor(self, step: int) -> str:
        return f"{self.spec['id']}:{step}:{digest(self.drawn[:step])}"

    def propose(self, call: Dict[str, Any]) -> Dict[str, Any]:
        step, rank = call["step"], call.get("rank", 0)
        if self.paused:
            raise Refused(503, "session/paused", "paused", True)
        if step > len(self.drawn) + 1:
            raise Refused(409, "step/out-of-order", f"step {step} was asked for, and step {len(self.drawn) + 1} comes next")
        end = self.steps_in_all is not None and step > self.steps_in_all
        if step == len(self.drawn) + 1 and not end:
            self.choose(step, call)
        rows = [] if end else self.drawn[step - 1][rank :: self.ranks]
        return {
            "session": self.spec["id"], "step": step, "rank": rank, "epoch": 0, "end": end, "cursor": self.cursor(step), "method": "fake",
            "rows": [{"row": row, "weight": 1.0, "score": 0.5, "group": row % 4, "data": {"text": f"row {row}", "input_ids": [row % 7 + 1] * (row % 5 + 2), "labels": [row % 7 + 1] * (row % 5 + 2)}} for row in rows],
        }

    def choose(self, step: int, call: Dict[str, Any]) -> None:
        wanted = step - 1 - self.lag
        if self.needs["after"] and self.observed() < wanted:
            raise Refused(425, "step/wait", f"feedback of step {self.observed() + 1} is missing", True)
        if self.needs["before"] and "candidates" not in call:
            raise Refused(422, "signal/missing", "signals of candidates are missing")
        self.given[step] = call.get("candidates")
        seen = [self.taken[(s, rank)] for s in range(1, wanted + 1) for rank in range(self.ranks)] if self.needs["after"] else []
        seed = int(digest([step, seen, self.given[step], self.factor]), 16)
        size = self.batch * self.ranks - (1 if self.spec["plan"].get("short_every") and step % self.spec["plan"]["short_every"] == 0 else 0)
        self.drawn.append([(seed + place * 37) % self.rows for place in range(size)])

    def feedback(self, call: Dict[str, Any]) -> Dict[str, Any]:
        step, rank = call["step"], call.get("rank", 0)
        if step > len(self.drawn):
            raise Refused(409, "step/not-proposed", f"step {step} was not handed out")
        content = {"rows": call.get("rows"), "signals": call.get("signals"), "skip": call.get("skip", False)}
        replayed = (step, rank) in self.taken
        if replayed and self.taken[(step, rank)] != content:
            raise Refused(409, "step/other-content", f"feedback of step {step} came with other content")
        own = self.drawn[step - 1][rank :: self.ranks]
        if any(row not in own for row in call.get("rows") or []):
            raise Refused(422, "signal/row", "a row is not of this step and rank")
        self.taken[(step, rank)] = content
        return {"session": self.spec["id"], "step": step, "rank": rank, "observed": self.observed(), "replayed": replayed, "cursor": self.cursor(step)}

    def seek(self, call: Dict[str, Any]) -> Dict[str, Any]:
        step = call["step"] if "step" in call else int(call["cursor"].split(":")[1])
        if step > len(self.drawn) or ("cursor" in call and call["cursor"] != self.cursor(step)):
            raise Refused(409, "cursor/forgotten", "the cursor is of another history")
        del self.drawn[step:]
        self.taken = {key: value for key, value in self.taken.items() if key[0] <= step}
        return self.info()


class FakeServer:
    """Serves sessions from a thread. ``faults`` are used up one a call: ``drop-before``, ``drop-after``, or a status such as 429."""

    def __init__(self) -> None:
        self.sessions: Dict[str, FakeSession] = {}
        self.jobs: Dict[str, Dict[str, Any]] = {}
        self.faults: List[Any] = []
        self.calls: List[Tuple[str, str, Any]] = []
        self.token: Optional[str] = None
        self.connections = 0
        self.lock = threading.Lock()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, on the port of the last time."""
        self.http = Server(("127.0.0.1", self.port), handler(self))
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=lambda: self.http.serve_forever(poll_interval=0.01), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Die: every connection breaks, what was accepted stays."""
        self.http.shutdown()
        self.http.server_close()
        self.http.break_connections()
        self.thread.join()

    def answer(self, method: str, path: str, body: Any) -> Tuple[int, Any]:
        """Status and document of a call."""
        if method == "GET" and path == "/health":
            return 200, {"status": "ok"}
        if method == "POST" and path == "/v1/sessions":
            return self.create(body)
        if method == "GET" and path == "/v1/sessions":
            return 200, {"sessions": [session.info() for session in self.sessions.values()]}
        if path.startswith("/v1/jobs"):
            return self.job(method, path, body)
        found = re.fullmatch(r"/v1/sessions/([^/?]+)(?:/(\w+))?(?:\?(.*))?", path)
        if not found or found[1] not in self.sessions:
            raise Refused(404, "session/unknown", f"there is no session at {path}")
        return self.of_session(self.sessions[found[1]], method, found[2], body or {}, found[3] or "")

    def create(self, body: Dict[str, Any]) -> Tuple[int, Any]:
        there = self.sessions.get(body["id"])
        if there and there.spec != body:
            raise Refused(409, "session/other-spec", "the session was created with another body")
        if not there:
            self.sessions[body["id"]] = FakeSession(body)
        return (200 if there else 201), self.sessions[body["id"]].info()

    def of_session(self, session: FakeSession, method: str, verb: Optional[str], body: Dict[str, Any], query: str) -> Tuple[int, Any]:
        if verb is None and method == "DELETE":
            del self.sessions[session.spec["id"]]
            return 204, None
        if verb is None:
            return 200, session.info()
        if verb in ("propose", "feedback", "seek"):
            return 200, getattr(session, verb)(body)
        if verb in ("pause", "resume"):
            session.paused = verb == "pause"
            return 200, session.info()
        if verb == "steer":
            if body["id"] not in session.changes:
                session.changes.append(body["id"])
                session.factor *= body["factor"]
            return 200, session.info()
        if verb == "candidates":
            return 200, {"session": session.spec["id"], "step": body["step"], "rows": [{"row": row, "data": {"text": f"row {row}"}} for row in range(6)]}
        if verb == "history":
            after = int(re.search(r"after=(\d+)", query)[1])  # type: ignore[index]
            steps = range(after + 1, min(after + 3, len(session.drawn)) + 1)
            return 200, {"points": [{"step": step} for step in steps], "next": steps[-1] if steps else after}
        raise Refused(404, "path/unknown", f"no {verb}")

    def job(self, method: str, path: str, body: Any) -> Tuple[int, Any]:
        if method == "POST":
            self.jobs[body["id"]] = {"id": body["id"], "status": "queued", "polls": 0}
            return 201, self.jobs[body["id"]]
        if path == "/v1/jobs":
            return 200, {"jobs": list(self.jobs.values())}
        job = self.jobs.get(path.rsplit("/", 1)[1])
        if job is None:
            raise Refused(404, "job/unknown", "no such job")
        if method == "DELETE":
            del self.jobs[job["id"]]
            return 204, None
        job["polls"] += 1
        if job["polls"] > 2:
            job.update({"status": "failed", "error": {"code": "plan/bad", "detail": "no"}} if "bad" in job["id"] else {"status": "done"})
        return 200, job


class Server(ThreadingHTTPServer):
    """Remembers its connections, so that they can be broken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        self.open: List[socket.socket] = []
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.append(request)
        super().process_request(request, client_address)

    def break_connections(self) -> None:
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is what the tests are about."""


def handler(fake: FakeServer) -> Any:
    """A handler class over the shared state."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            fake.connections += 1

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self.serve("GET")

        def do_POST(self) -> None:
            self.serve("POST")

        def do_DELETE(self) -> None:
            self.serve("DELETE")

        def serve(self, method: str) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(raw) if raw else None
            with fake.lock:
                fake.calls.append((method, self.path, body))
                fault = fake.faults.pop(0) if fake.faults else None
            if fault == "drop-before":
                return self.drop()
            if isinstance(fault, int):
                return self.write(fault, {"code": "try/later", "detail": "later", "retriable": True}, {"retry-after": "0.01"})
            try:
                status, document = self.wait_for(method, body)
            except Refused as refused:
                problem = {"code": refused.code, "detail": refused.detail, "hint": "a hint", "status": refused.status, "retriable": refused.retriable, "request_id": "r-1"}
                return self.write(refused.status, problem, {"retry-after": "0.01"} if refused.retriable else {})
            if fault == "drop-after":
                return self.drop()
            self.write(status, document, {})

        def wait_for(self, method: str, body: Any) -> Tuple[int, Any]:
            if fake.token and self.headers.get("authorization") != f"Bearer {fake.token}":
                raise Refused(401, "token/missing", "a token is needed")
            deadline = time.monotonic() + 0.05
            while True:
                try:
                    with fake.lock:
                        return fake.answer(method, self.path, body)
                except Refused as refused:
                    if refused.status != 425 or time.monotonic() > deadline:
                        raise
                time.sleep(0.002)

        def drop(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def write(self, status: int, document: Any, headers: Dict[str, str]) -> None:
            raw = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("content-length", str(len(raw)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

    return Handler
