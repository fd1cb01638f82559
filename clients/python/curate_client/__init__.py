"""Draws training batches from ``curate serve`` and sends back what the trainer saw.

`Client`, `Session`, `RowStream` and `Feedback` need the standard library alone. `CurateIterableDataset` needs torch; the rest is in the modules
``curate_client.hf`` (HF Trainer, TRL), ``.rewards`` (GRPO), ``.verl`` and ``.axolotl``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .client import Client, Session
from .errors import CurateError, CurateUnavailable
from .feedback import Feedback
from .stream import RowStream
from .wire import Batch, Row, SessionInfo

if TYPE_CHECKING:
    from .dataset import CurateIterableDataset

__all__ = ["Batch", "Client", "CurateError", "CurateIterableDataset", "CurateUnavailable", "Feedback", "Row", "RowStream", "Session", "SessionInfo"]


def __getattr__(name: str) -> Any:
    if name == "CurateIterableDataset":
        from .dataset import CurateIterableDataset

        return CurateIterableDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
