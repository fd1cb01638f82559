"""Rows of one rank's batches, in order, from wherever the trainer stands. Knows no torch.

The next batch is asked for on a thread while this one is trained on, where that cannot wait for the trainer itself: a method that takes no
feedback, or a session whose ``lag`` allows the last feedback to be outstanding.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from .client import Session
from .errors import CurateError
from .wire import Batch, Row

Score = Callable[[Batch], Mapping[str, Sequence[Any]]]


@dataclass(frozen=True)
class Drawn:
    """A row with its step and the number of rows this rank has in that step."""

    row: Row
    step: int
    of: int


class RowStream:
    """An endless (or, with ``epochs``, ending) iterator over a session's rows.

    Args:
        session: the session.
        rank, world: which trainer this is, of how many; the session's ``ranks`` must agree.
        prefetch: ask for the next batch ahead, where the session permits it.
        start: without a loaded state, ``beginning`` starts at step 1 and forgets what an earlier trainer did; ``continue`` goes on behind it.
        score: signals of candidates, for methods whose ``needs.before`` is not empty.
        sync: called by every rank after rank 0 went back, before anybody draws; a barrier.
    """

    def __init__(
        self,
        session: Session,
        rank: int = 0,
        world: int = 1,
        *,
        prefetch: bool = True,
        start: str = "beginning",
        score: Optional[Score] = None,
        sync: Optional[Callable[[], None]] = None,
    ) -> None:
        if start not in ("beginning", "continue"):
            raise CurateError("client/start", f"start is beginning or continue, not {start!r}")
        ranks = session.info.get("ranks", 1)
        if world != ranks:
            raise CurateError("client/ranks", f"{world} trainers draw from a session made for {ranks}", hint=f"create the session with ranks: {world}")
        self.session, self.rank, self.world = session, rank, world
        self.prefetch, self.start, self.score, self.sync = prefetch, start, score, sync
        self.begun = False
        self._step, self._offset, self._cursor = 0, 0, None  # type: int, int, Optional[str]
        self._batch: Optional[Batch] = None
        self._ahead: Optional[Ahead] = None

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_ahead": None, "sync": None}

    def __iter__(self) -> Iterator[Drawn]:
        return self

    def __next__(self) -> Drawn:
        self.begin()
        while self._batch is None or self._offset >= len(self._batch):
            self._leave()
            batch = self._fetch(self._step + 1)
            if batch.end:
                raise StopIteration
            self._enter(batch)
        batch = self._batch
        row = batch.rows[self._offset]
        self._offset += 1
        return Drawn(row, batch.step, len(batch))

    def begin(self) -> None:
        """Go to where this trainer stands, once; called by the first draw. With several ranks, rank 0 does it and the others wait in ``sync``."""
        if self.begun:
            return
        self.session.wait_ready()
        if self.world > 1 and self.sync is None:
            raise CurateError(
                "client/no-barrier", "several trainers share this session, and this process cannot wait for rank 0",
                hint="call begin() in the main process, where torch.distributed is initialised",
            )
        if self.rank == 0:
            self._go_back()
        if self.sync is not None:
            self.sync()
        self.begun = True
        self._go_on()

    def _go_back(self) -> None:
        """On the server, forget what came after this trainer's place."""
        if self._cursor is not None:
            self.session.seek(self._cursor)  # even where nothing is to forget: a cursor of another history is found out
        elif self._step or self._offset or self.start == "beginning":
            if self.session.refresh()["step"] > self._step:
                self.session.seek(step=self._step)

    def _go_on(self) -> None:
        if not (self._step or self._offset) and self.start == "continue":
            info = self.session.refresh()
            self._step = info["observed"] if self.waits_for_feedback else info["step"]

    @property
    def waits_for_feedback(self) -> bool:
        """Whether the method learns from feedback, so that batches wait for it."""
        return bool(self.session.info.get("needs", {}).get("after"))

    @property
    def lag(self) -> int:
        """Steps of feedback that may be outstanding; unbounded where none is waited for."""
        return int(self.session.info.get("lag", 0)) if self.waits_for_feedback else 1 << 30

    def _may_run_ahead(self) -> bool:
        return self.prefetch and self.lag > 0 and self.score is None

    def _leave(self) -> None:
        """The batch is used up: its step is behind us."""
        if self._batch is not None:
            self._step, self._offset, self._cursor, self._batch = self._batch.step, 0, self._batch.cursor, None

    def _enter(self, batch: Batch) -> None:
        self._batch = batch
        if self._offset > len(batch):
            raise CurateError("client/offset", f"{self._offset} rows of step {batch.step} were used, and it has {len(batch)}", hint="is this checkpoint of another session?")
        if not batch.rows and self.waits_for_feedback:
            self.session.feedback(batch.step, rank=self.rank, skip=True)
        if self._may_run_ahead():
            self._ahead = Ahead(self._propose, batch.step + 1)

    def _fetch(self, step: int) -> Batch:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.step == step:
            return ahead.result()
        return self._propose(step)

    def _propose(self, step: int) -> Batch:
        if not self.session.info.get("needs", {}).get("before"):
            return self.session.propose(step, self.rank)
        if self.score is None:
            raise CurateError("client/no-score", f"method {self.session.info['method']} chooses by signals of candidates", hint="pass score=, which computes them")
        found = self.session.candidates(step)
        return self.session.propose(step, self.rank, candidates={"rows": found.ids, "signals": self.score(found)})

    def peek(self) -> List[Row]:
        """Rows of the first step, without moving: what they look like."""
        return (self._propose(1) if self.score is None else self.session.candidates(1)).rows

    def state_dict(self) -> Dict[str, Any]:
        """Where this stands: behind the last row that was drawn."""
        if self._batch is not None and self._offset >= len(self._batch):
            return self._state(self._batch.step, 0, self._batch.cursor)
        return self._state(self._step, self._offset, self._cursor)

    def _state(self, step: int, offset: int, cursor: Optional[str]) -> Dict[str, Any]:
        return {"version": 1, "session": self.session.id, "step": step, "offset": offset, "cursor": cursor}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where a state says; the server goes back with the next draw."""
        if state["session"] != self.session.id:
            raise CurateError("client/session", f"the state is of session {state['session']!r}, not {self.session.id!r}")
        self._step, self._offset, self._cursor = int(state["step"]), int(state["offset"]), state.get("cursor")
        self._batch, self._ahead, self.begun = None, None, False


class Ahead:
    """A batch asked for on a thread of its own, which never keeps the process alive."""

    def __init__(self, propose: Callable[[int], Batch], step: int) -> None:
        self.step = step
        self._propose = propose
        self._found: Optional[Union[Batch, BaseException]] = None
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name=f"curate-step-{step}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._propose(self.step)
        except BaseException as error:  # handed to whoever asks for the batch
            self._found = error

    def result(self) -> Batch:
        """The batch, or the error it met."""
        if self._process != os.getpid():
            return self._propose(self.step)  # a forked process has no such thread
        self._thread.join()
        if isinstance(self._found, Batch):
            return self._found
        raise self._found or RuntimeError("no batch")
