"""HTTP with the standard library: kept-alive connections, and the same call again until it is answered.

Every call of the contract may be sent twice: the server recognises a step, a row set or a name it has seen. So a lost answer, a server
that restarts and an answer that says "not yet" are all met the same way, by sending the call again until the client's patience ends.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from .errors import CurateError, CurateUnavailable
from .wire import JSON

RETRIABLE = (425, 429, 502, 503, 504)
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Request:
    """One call. ``repeatable`` says whether it may be sent again when its answer was lost."""

    method: str
    path: str
    body: Optional[bytes] = None
    kind: str = JSON
    accept: str = JSON
    repeatable: bool = True


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case. ``attempts`` is 1 for a call answered at once."""

    status: int
    headers: Dict[str, str]
    body: bytes
    attempts: int = 1

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.body) if self.body else None
        except ValueError as error:
            raise CurateError("client/answer", "the answer is not JSON", status=self.status, hint="is this a curate server?") from error


class Transport:
    """Connections to one server. Safe to share between threads; a forked or unpickled copy opens its own."""

    def __init__(self, url: str, token: Optional[str], timeout_s: float, patience_s: float, ca_file: Optional[str]) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CurateError("client/url", f"{url!r} is no address of a server", hint="write http://HOST:PORT or https://HOST:PORT")
        self._secure, self._host = parts.scheme == "https", parts.hostname
        self._port, self._prefix = parts.port, parts.path.rstrip("/")
        self._token, self._timeout_s, self._patience_s, self._ca_file = token, timeout_s, patience_s, ca_file
        self._fresh()

    def _fresh(self) -> None:
        self._idle: List[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> Dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_idle", "_lock")}

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._fresh()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def close(self) -> None:
        """Close idle connections; the next call opens a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def call(self, request: Request) -> Answer:
        """Send until answered for good.

        Raises:
            CurateUnavailable: nothing but failures and "not yet" for longer than the patience.
            CurateError: the server refused.
        """
        deadline = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            attempt += 1
            trouble, asked_s = self._attempt(request, attempt)
            if isinstance(trouble, Answer):
                return trouble
            pause_s = pause(attempt, asked_s)
            if time.monotonic() + pause_s > deadline:
                raise CurateUnavailable(
                    "client/unavailable", f"{request.method} {request.path}: no answer within {self._patience_s:g} s: {trouble}",
                    hint="is the server running? a longer patience_s waits longer", status=getattr(trouble, "status", 0), retriable=True,
                ) from trouble
            time.sleep(pause_s)

    def _attempt(self, request: Request, attempt: int) -> Tuple[Any, Optional[float]]:
        """An answer, or why there is none yet and how long the server asks to wait."""
        try:
            status, headers, body = self._send(request)
        except Lost as error:
            if error.sent and not request.repeatable:
                raise CurateUnavailable(
                    "client/answer-lost", f"{request.method} {request.path}: the answer was lost: {error}",
                    hint="this call may have taken effect; look before repeating it",
                ) from error
            return error, None
        if status < 400:
            return Answer(status, headers, body, attempt), None
        refusal = problem(status, body)
        if status in RETRIABLE or refusal.retriable:
            return refusal, seconds(headers.get("retry-after"))
        raise refusal

    def _send(self, request: Request) -> Tuple[int, Dict[str, str], bytes]:
        connection, used = self._take(request.repeatable)
        sent = False
        try:
            if connection.sock is None:
                connection.connect()
            sent = True
            connection.request(request.method, self._prefix + request.path, request.body, self._headers(request))
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if used and request.repeatable:  # the server closed a kept-alive connection
                return self._send(request)
            raise Lost(error, sent) from error
        except BaseException:
            connection.close()
            raise
        self._give_back(connection, answer.will_close)
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body

    def _headers(self, request: Request) -> Dict[str, str]:
        headers = {"accept": request.accept, "user-agent": "curate-client/0.1"}
        if request.body is not None:
            headers["content-type"] = request.kind
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        return headers

    def _take(self, used: bool) -> Tuple[http.client.HTTPConnection, bool]:
        if self._process != os.getpid():
            inherited = self._idle
            self._fresh()
            for connection in inherited:
                connection.close()  # this process's handles alone; the other goes on using its own
        with self._lock:
            if used and self._idle:
                return self._idle.pop(), True
        if self._secure:
            context = ssl.create_default_context(cafile=self._ca_file)
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=context), False
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s), False

    def _give_back(self, connection: http.client.HTTPConnection, closes: bool) -> None:
        if closes:
            connection.close()
            return
        with self._lock:
            self._idle.append(connection)


class Lost(Exception):
    """No answer came. ``sent`` says whether the server may have got the call."""

    def __init__(self, cause: BaseException, sent: bool) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.sent = sent


def problem(status: int, body: bytes) -> CurateError:
    """The error in an answer of 400 or more, whoever wrote it."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, Mapping):
        return CurateError.from_problem(status, document)
    return CurateError(f"http/{status}", f"the server answered {status}: {body[:200].decode('utf-8', 'replace').strip()}", status=status)


def seconds(header: Optional[str]) -> Optional[float]:
    """Seconds of a Retry-After header; dates are not understood and count as none."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None


def pause(attempt: int, asked_s: Optional[float]) -> float:
    """How long to wait before sending again: what the server asks, else twice as long each time, spread so that ranks do not come together."""
    if asked_s is not None:
        return min(asked_s, LONGEST_PAUSE_S)
    # 2 ** 7 * 0.02 s is 2.6 s
    longest = 0.02 * 2.0 ** min(attempt, 7)
    return longest * (0.5 + 0.5 * random.random())
