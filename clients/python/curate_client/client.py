"""The contract of ``docs/http.md`` as methods.

>>> client = Client("http://127.0.0.1:8080")
>>> session = client.create_session({"plan": {"input": {"paths": ["rows.jsonl"]}, "online": {"name": "kmeans-refine"}}, "batch": 8}, id="run-7")
>>> batch = session.propose(1)
>>> session.feedback(1, batch.ids, {"loss": [1.2] * len(batch)})
"""

from __future__ import annotations

import json
import math
import time
import uuid
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence
from urllib.parse import quote, urlencode

from .errors import CurateError, CurateUnavailable
from .transport import Answer, Request, Transport
from .wire import ARROW, JSON, Batch, SessionInfo, batch_from_arrow, batch_from_json, signals_to_arrow


class Client:
    """A server.

    Args:
        url: ``http://host:port`` or ``https://…``.
        token: bearer token; not needed on loopback.
        timeout_s: longest wait for one answer; propose asks the server to wait at most 30 s of it.
        patience_s: how long a call is sent again while the server restarts or says "not yet".
        arrow: batches as Arrow streams (needs pyarrow); JSON otherwise.
        ca_file: certificates to trust, for a server that signed its own.
    """

    def __init__(
        self, url: str, token: Optional[str] = None, *, timeout_s: float = 75.0, patience_s: float = 600.0, arrow: bool = False, ca_file: Optional[str] = None
    ) -> None:
        self.arrow = arrow
        self._transport = Transport(url, token, timeout_s, patience_s, ca_file)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def call(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, *, repeatable: bool = True) -> Any:
        """Any call with JSON on both sides, for what has no method here."""
        return self.send(Request(method, path, None if body is None else encode(body), repeatable=repeatable)).json()

    def send(self, request: Request) -> Answer:
        """Any call."""
        return self._transport.call(request)

    def create_session(self, spec: Mapping[str, Any], id: Optional[str] = None) -> "Session":
        """Create a session, or attach to the one of this id; with another spec than it was created with, that is a conflict (409)."""
        body = dict(spec)
        body["id"] = id or body.get("id") or f"s-{uuid.uuid4().hex[:16]}"
        return Session(self, self.call("POST", "/v1/sessions", body))

    def session(self, id: str) -> "Session":
        """A session that is there."""
        return Session(self, self.call("GET", f"/v1/sessions/{quote(id, safe='')}"))

    def sessions(self) -> List[SessionInfo]:
        """All sessions."""
        found: List[SessionInfo] = self.call("GET", "/v1/sessions")["sessions"]
        return found

    def create_job(self, plan: Mapping[str, Any], id: Optional[str] = None) -> Dict[str, Any]:
        """Queue a plan; its JobInfo."""
        return dict(self.call("POST", "/v1/jobs", {"id": id or f"j-{uuid.uuid4().hex[:16]}", "plan": plan}))

    def jobs(self) -> List[Dict[str, Any]]:
        """All jobs."""
        return list(self.call("GET", "/v1/jobs")["jobs"])

    def job(self, id: str) -> Dict[str, Any]:
        """One job."""
        return dict(self.call("GET", f"/v1/jobs/{quote(id, safe='')}"))

    def wait_job(self, id: str, timeout_s: float = math.inf, every_s: float = 0.5) -> Dict[str, Any]:
        """Wait until a job is done.

        Raises:
            CurateError: it failed, or was cancelled.
            CurateUnavailable: it still runs after ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            job = self.job(id)
            if job["status"] == "done":
                return job
            if job["status"] in ("failed", "cancelled"):
                raise CurateError.from_problem(0, job.get("error") or {"code": f"job/{job['status']}", "detail": f"job {id} {job['status']}"})
            if time.monotonic() + every_s > deadline:
                raise CurateUnavailable("client/timeout", f"job {id} still runs after {timeout_s:g} s", retriable=True)
            time.sleep(every_s)

    def job_result(self, id: str) -> bytes:
        """The file a job wrote."""
        return self.send(Request("GET", f"/v1/jobs/{quote(id, safe='')}/result", accept="*/*")).body

    def job_manifest(self, id: str) -> Dict[str, Any]:
        """What the job did: resolved plan, digests, counts."""
        return dict(self.call("GET", f"/v1/jobs/{quote(id, safe='')}/manifest"))

    def delete_job(self, id: str) -> None:
        """Cancel a job that runs, remove one that ended."""
        self._delete(f"/v1/jobs/{quote(id, safe='')}")

    def algorithms(self) -> Any:
        """Every method with parameters, needs and source."""
        return self.call("GET", "/v1/algorithms")

    def system(self) -> Dict[str, Any]:
        """Version, memory, load."""
        return dict(self.call("GET", "/v1/system"))

    def health(self) -> bool:
        """Whether the server takes calls; asked again within the patience."""
        return bool(self.call("GET", "/health")["status"] == "ok")

    def _delete(self, path: str) -> None:
        try:
            self.send(Request("DELETE", path))
        except CurateError as error:
            if error.status != 404:
                raise  # gone is what was asked for: an answer may have been lost


class Session:
    """A session: batches out, signals in. ``info`` is what the server last said of it."""

    def __init__(self, client: Client, info: SessionInfo) -> None:
        self.client = client
        self.info = info
        self.id = info["id"]

    def _path(self, tail: str = "") -> str:
        return f"/v1/sessions/{quote(self.id, safe='')}{tail}"

    def refresh(self) -> SessionInfo:
        """Ask where the session stands."""
        self.info = self.client.call("GET", self._path())
        return self.info

    def wait_ready(self, every_s: float = 0.1) -> SessionInfo:
        """Wait until rows are prepared: only then does the server know what the method needs.

        Raises:
            CurateError: the session could not be prepared.
        """
        while self.refresh().get("status") == "preparing":
            time.sleep(every_s)
        if self.info.get("status") == "failed":
            raise CurateError.from_problem(0, self.info.get("error") or {"code": "session/failed"})
        return self.info

    def propose(self, step: int, rank: int = 0, *, wait_s: float = 30.0, candidates: Optional[Mapping[str, Any]] = None) -> Batch:
        """The batch of a step: the next one, or an earlier one again.

        Waits while the batch is prepared or feedback of earlier steps is missing. ``candidates`` is ``{"rows": […], "signals": {name: […]}}`` where
        the method wants signals of candidates.
        """
        query = f"?{urlencode({'step': step, 'rank': rank, 'wait_s': wait_s})}"
        accept = ARROW if self.client.arrow else JSON
        if candidates is not None and self.client.arrow:
            body = signals_to_arrow(candidates["rows"], candidates["signals"])
            return self._batch(Request("POST", self._path(f"/propose{query}"), body, ARROW, accept), rank)
        call: Dict[str, Any] = {"step": step, "rank": rank, "wait_s": wait_s}
        if candidates is not None:
            call["candidates"] = plain(candidates)
        return self._batch(Request("POST", self._path("/propose"), encode(call), accept=accept), rank)

    def candidates(self, step: int) -> Batch:
        """Candidates of a step, rendered like a batch, for methods that want their signals first."""
        accept = ARROW if self.client.arrow else JSON
        return self._batch(Request("POST", self._path("/candidates"), encode({"step": step}), accept=accept), 0)

    def _batch(self, request: Request, rank: int) -> Batch:
        answer = self.client.send(request)
        if answer.headers.get("content-type", "").startswith(ARROW):
            return batch_from_arrow(self.id, rank, answer.headers, answer.body)
        return batch_from_json(answer.json())

    def feedback(
        self, step: int, rows: Sequence[int] = (), signals: Optional[Mapping[str, Sequence[Any]]] = None, rank: int = 0, *, skip: bool = False
    ) -> Dict[str, Any]:
        """Send what was seen of rows of a step, once; ``skip=True`` without rows says that nothing will come."""
        if skip:
            return dict(self.client.call("POST", self._path("/feedback"), {"step": step, "rank": rank, "skip": True}))
        if self.client.arrow:
            query = urlencode({"step": step, "rank": rank})
            body = signals_to_arrow(rows, signals or {})
            return dict(self.client.send(Request("POST", self._path(f"/feedback?{query}"), body, ARROW)).json())
        call = {"step": step, "rank": rank, "rows": [int(row) for row in rows], "signals": plain(signals or {})}
        return dict(self.client.call("POST", self._path("/feedback"), call))

    def seek(self, cursor: Optional[str] = None, *, step: Optional[int] = None) -> SessionInfo:
        """Go back: forget everything after the cursor's step. With several ranks one of them calls this, and the others wait for it."""
        if (cursor is None) == (step is None):
            raise CurateError("client/seek", "seek wants a cursor or a step, one of them")
        self.info = self.client.call("POST", self._path("/seek"), {"cursor": cursor} if cursor is not None else {"step": step})
        return self.info

    def pause(self) -> SessionInfo:
        """Hand out no batches until resumed."""
        self.info = self.client.call("POST", self._path("/pause"), {})
        return self.info

    def resume(self) -> SessionInfo:
        """Go on."""
        self.info = self.client.call("POST", self._path("/resume"), {})
        return self.info

    def steer(self, group: int, factor: float, id: Optional[str] = None) -> Any:
        """Multiply a cluster's weight, from the next batch on. A change is made once for its id, which is drawn here unless given."""
        change = {"group": group, "factor": factor, "id": id or f"c-{uuid.uuid4().hex[:16]}"}
        return self.client.call("POST", self._path("/steer"), change)

    def state(self) -> Dict[str, Any]:
        """Cluster weights, posteriors, memory."""
        return dict(self.client.call("GET", self._path("/state")))

    def history(self, after: int = 0) -> Iterator[Dict[str, Any]]:
        """Points of the history after a step, one a step, page by page."""
        while True:
            page = self.client.call("GET", self._path(f"/history?{urlencode({'after': after, 'limit': 2000})}"))
            yield from page["points"]
            if not page["points"] or page.get("next") in (None, after):
                return
            after = page["next"]

    def group(self, group: int) -> Dict[str, Any]:
        """A cluster: size, keywords, example rows, scores."""
        return dict(self.client.call("GET", self._path(f"/groups/{group}")))

    def row(self, row: int) -> Dict[str, Any]:
        """One row as columns."""
        return dict(self.client.call("GET", self._path(f"/rows/{row}")))

    def log(self) -> Iterator[Dict[str, Any]]:
        """Every accepted call, oldest first."""
        body = self.client.send(Request("GET", self._path("/log"), accept="*/*")).body
        for line in body.splitlines():
            if line.strip():
                yield json.loads(line)

    def delete(self) -> None:
        """Remove the session; later calls get 404."""
        self.client._delete(self._path())


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON without NaN, which JSON does not know."""
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise CurateError("client/not-finite", "a signal is not a finite number", hint="leave that row out: some of the rows of a step may be sent") from error


def plain(value: Any) -> Any:
    """Tensors and arrays as lists, throughout."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
