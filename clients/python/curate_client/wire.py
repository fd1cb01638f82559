"""What travels, as ``docs/http.md`` tells it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, TypedDict

from .errors import CurateError

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"


class Needs(TypedDict):
    """Signals a method wants: of candidates (``before``) and of trained rows (``after``)."""

    before: List[str]
    after: List[str]


class SessionInfo(TypedDict, total=False):
    """Where a session stands."""

    id: str
    status: str
    created: float
    method: str
    kind: str
    seed: int
    batch: int
    ranks: int
    lag: int
    rows: int
    step: int
    observed: int
    epoch: int
    epochs: Optional[int]
    paused: bool
    render: str
    needs: Needs
    brings_candidates: bool
    cursor: str
    progress: Optional[Dict[str, Any]]
    error: Optional[Dict[str, Any]]
    spec: Dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One row of a batch; ``row`` is its number in the corpus, ``data`` what the session renders of it."""

    row: int
    weight: float = 1.0
    score: Optional[float] = None
    group: Optional[int] = None
    data: Dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """What one rank trains on in one step. After the last epoch ``end`` is true and there are no rows."""

    session: str
    step: int
    rank: int
    epoch: int
    end: bool
    cursor: Optional[str]
    method: str
    rows: List[Row]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> List[int]:
        """Row numbers, in order."""
        return [row.row for row in self.rows]


def batch_from_json(answer: Mapping[str, Any]) -> Batch:
    """A batch from a JSON answer."""
    rows = [
        Row(int(r["row"]), 1.0 if r.get("weight") is None else float(r["weight"]), r.get("score"), r.get("group"), r.get("data") or {})
        for r in answer["rows"]
    ]
    return Batch(
        session=str(answer["session"]),
        step=int(answer["step"]),
        rank=int(answer.get("rank", 0)),
        epoch=int(answer.get("epoch", 0)),
        end=bool(answer.get("end", False)),
        cursor=answer.get("cursor"),
        method=str(answer.get("method", "")),
        rows=rows,
    )


def batch_from_arrow(session: str, rank: int, headers: Mapping[str, str], body: bytes) -> Batch:
    """A batch from an Arrow stream; step, epoch, end and cursor are in the headers."""
    columns: List[Dict[str, Any]] = pyarrow().ipc.open_stream(io.BytesIO(body)).read_all().to_pylist()
    rows = []
    for data in columns:
        own = {name: data.pop(name, None) for name in ("row", "weight", "score", "group")}
        weight = 1.0 if own["weight"] is None else float(own["weight"])
        rows.append(Row(int(own["row"]), weight, own["score"], own["group"], data))
    return Batch(
        session=session,
        step=int(headers.get("curate-step", 0)),
        rank=rank,
        epoch=int(headers.get("curate-epoch", 0)),
        end=headers.get("curate-end", "false").lower() in ("true", "1"),
        cursor=headers.get("curate-cursor"),
        method=headers.get("curate-method", ""),
        rows=rows,
    )


def signals_to_arrow(rows: Sequence[int], signals: Mapping[str, Sequence[Any]]) -> bytes:
    """Rows with their signals as an Arrow stream (``row`` and ``signal.*`` columns)."""
    pa = pyarrow()
    columns = {"row": pa.array(list(rows), pa.uint64())}
    for name, values in signals.items():
        vector = bool(len(values)) and hasattr(values[0], "__len__")
        columns[f"signal.{name}"] = pa.array(list(values), pa.list_(pa.float32()) if vector else pa.float32())
    table = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def pyarrow() -> Any:
    """The pyarrow module, or an error that says how to get it."""
    try:
        import pyarrow as module
        import pyarrow.ipc
    except ImportError as error:
        raise CurateError("client/no-pyarrow", "Arrow was asked for and pyarrow is not installed", hint="pip install pyarrow, or leave arrow=False") from error
    return module
