"""What the trainer saw of rows, collected until a step is whole, then sent once."""

from __future__ import annotations

import math
import warnings
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .client import Session
from .errors import CurateError

Signals = Dict[str, Optional[float]]


class Feedback:
    """Signals of one rank. Rows arrive in any grouping; a step is sent by `flush` when all its rows are in.

    ``cursor`` belongs to the last step sent: what a trainer keeps in its checkpoint. `state_dict` holds it together with the signals of a step that is
    not whole yet, so that a checkpoint may fall anywhere.
    """

    def __init__(self, session: Session, rank: int = 0) -> None:
        self.session = session
        self.rank = rank
        self.step: Optional[int] = None
        self.cursor: Optional[str] = None
        self._waiting: Dict[int, Dict[int, Signals]] = {}
        self._sizes: Dict[int, int] = {}

    def add(self, step: int, rows: Sequence[int], of: int, signals: Mapping[str, Sequence[float]]) -> None:
        """Note signals of rows of a step that has ``of`` rows on this rank. A row whose signals are not finite counts as seen and is not sent."""
        if self.step is None:
            self.step = step - 1
        if step <= self.step:
            raise CurateError("client/feedback-late", f"signals of step {step} came after the feedback of step {self.step} was sent")
        seen = self._waiting.setdefault(step, {})
        self._sizes[step] = of
        for place, row in enumerate(rows):
            if row in seen:
                raise CurateError("client/feedback-twice", f"row {row} of step {step} has its signals already")
            seen[row] = {name: finite(values[place]) for name, values in signals.items()}

    def note(self, tags: Sequence[Sequence[int]], **signals: Sequence[float]) -> None:
        """Note signals of tagged rows: each tag is ``[step, row, rows in the step]``, as the torch collator hands them on."""
        for place, (step, row, of) in enumerate(tags):
            self.add(step, [row], of, {name: [values[place]] for name, values in signals.items()})

    def flush(self) -> int:
        """Send every step that is whole, in order; how many were sent."""
        sent = 0
        while self.step is not None and len(self._waiting.get(self.step + 1, ())) == self._sizes.get(self.step + 1, -1):
            self._send(self.step + 1)
            sent += 1
        return sent

    def _send(self, step: int) -> None:
        seen = self._waiting[step]
        rows = [row for row, signals in seen.items() if signals and None not in signals.values()]
        if len(rows) < len(seen):
            warnings.warn(f"step {step}: {len(seen) - len(rows)} rows have no finite signal and are left out", stacklevel=3)
        if rows:
            columns: Dict[str, List[Any]] = {name: [seen[row][name] for row in rows] for name in seen[rows[0]]}
            answer = self.session.feedback(step, rows, columns, self.rank)
        else:
            answer = self.session.feedback(step, rank=self.rank, skip=True)
        del self._waiting[step], self._sizes[step]
        self.step, self.cursor = step, answer.get("cursor")

    def skipped(self, step: int, cursor: Optional[str]) -> None:
        """Note that a step without rows was passed."""
        self.step, self.cursor = step, cursor

    @property
    def offset(self) -> int:
        """Rows noted of the first step that is not sent."""
        return 0 if self.step is None else len(self._waiting.get(self.step + 1, ()))

    def state_dict(self) -> Dict[str, Any]:
        """Where the trainer stands, as JSON: what was trained and noted, not what was fetched ahead."""
        step = self.step or 0
        partial = [[row, signals] for row, signals in self._waiting.get(step + 1, {}).items()]
        return {"version": 1, "session": self.session.id, "step": step, "offset": self.offset, "cursor": self.cursor, "partial": partial, "of": self._sizes.get(step + 1, 0)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where a state says."""
        self.step, self.cursor = int(state["step"]), state.get("cursor")
        self._waiting, self._sizes = {}, {}
        partial = state.get("partial") or []
        if partial and self.rank != 0:
            raise CurateError("client/partial-step", "the checkpoint fell inside a step, and it holds rank 0's signals alone", hint="save at whole steps of the session")
        if partial:
            self._waiting[self.step + 1] = {int(row): dict(signals) for row, signals in partial}
            self._sizes[self.step + 1] = int(state["of"])


def finite(value: Any) -> Optional[float]:
    """The number, or none where it is NaN or infinite."""
    number = float(value)
    return number if math.isfinite(number) else None
