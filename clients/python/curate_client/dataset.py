"""A session as a torch dataset.

>>> dataset = CurateIterableDataset(session)
>>> for batch in DataLoader(dataset, batch_size=8, collate_fn=TaggedCollator(PadCollator())):
...     tags = batch.pop("curate_tags").tolist()
...     outputs = train(batch)
...     dataset.feedback.note(tags, loss=row_losses(outputs, batch["labels"]).tolist())
...     dataset.feedback.flush()
"""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import torch
from torch.utils.data import IterableDataset, get_worker_info

from .client import Session
from .errors import CurateError
from .feedback import Feedback
from .stream import Drawn, RowStream, Score
from .wire import Row

ROW, STEP, OF, WEIGHT = "_curate_row", "_curate_step", "_curate_of", "_curate_weight"
Transform = Callable[[Dict[str, Any]], Mapping[str, Any]]


def rank_and_world() -> Tuple[int, int]:
    """This process among the trainers: from torch.distributed, else from RANK and WORLD_SIZE, else alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def barrier() -> Optional[Callable[[], None]]:
    """Waits for all trainers, where torch.distributed is initialised."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return lambda: torch.distributed.barrier()
    return None


class CurateIterableDataset(IterableDataset):  # type: ignore[type-arg]
    """Yields this rank's rows as dicts: what the session renders, and with ``tags`` the row's number, step, rows in that step, and weight under
    ``_curate_row``, ``_curate_step``, ``_curate_of``, ``_curate_weight``.

    It is a stream, not a list (``finished = True`` makes it yield nothing more): a second loop over it goes on where the first stopped. `state_dict` and `load_state_dict` are those of torchdata's
    StatefulDataLoader. At most one dataloader worker, since rows have one order.

    Args:
        session: the session; its ``ranks`` must equal the number of trainers.
        transform: applied to each row's data, for instance a tokenizer.
        tags: add the ``_curate_*`` keys.
        rank, world: where torch.distributed and the environment do not know.
        prefetch, start, score: as for `RowStream`.
    """

    def __init__(
        self,
        session: Session,
        *,
        transform: Optional[Transform] = None,
        tags: bool = True,
        rank: Optional[int] = None,
        world: Optional[int] = None,
        prefetch: bool = True,
        start: str = "beginning",
        score: Optional[Score] = None,
    ) -> None:
        super().__init__()
        own_rank, own_world = rank_and_world()
        self.rank = own_rank if rank is None else rank
        self.world = own_world if world is None else world
        self.session, self.transform, self.tags = session, transform, tags
        self.finished = False
        self.stream = RowStream(session, self.rank, self.world, prefetch=prefetch, start=start, score=score)
        self.feedback = Feedback(session, self.rank)

    def begin(self) -> None:
        """Go to where this trainer stands; needed with several ranks and a dataloader worker, else the first row does it."""
        self.stream.sync = barrier()  # now: a dataset is often made before torch.distributed is
        self.stream.begin()

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        worker = get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise CurateError(
                "client/workers", f"{worker.num_workers} dataloader workers would hand out every row several times",
                hint="set num_workers to 0 or 1: the next batch is fetched on a thread anyway",
            )
        if self.finished:
            return
        self.begin()
        for drawn in self.stream:
            yield self.render(drawn)

    def render(self, drawn: Drawn) -> Dict[str, Any]:
        """A row as it is yielded."""
        row = self._data(drawn.row)
        if self.tags:
            row.update({ROW: drawn.row.row, STEP: drawn.step, OF: drawn.of, WEIGHT: drawn.row.weight})
        return row

    def _data(self, row: Row) -> Dict[str, Any]:
        return dict(self.transform(row.data) if self.transform else row.data)

    def state_dict(self) -> Dict[str, Any]:
        """Behind the last row that was yielded."""
        return self.stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where a state says; signals of a step that was not whole come back with it."""
        self.stream.load_state_dict(state)
        self.feedback.load_state_dict(state)

    def preview(self) -> List[Dict[str, Any]]:
        """Rows of the first step, without moving."""
        return [self.render(Drawn(row, 1, 1)) for row in self.stream.peek()]

    def to_datasets(self) -> Any:
        """This stream as a ``datasets.IterableDataset``, for trainers that insist on one (TRL's GRPO)."""
        import datasets

        return datasets.IterableDataset.from_generator(lambda: iter(self))

    def preview_datasets(self) -> Any:
        """The first rows as a ``datasets.IterableDataset``, for trainers that look at one row before they train."""
        import datasets

        return datasets.IterableDataset.from_generator(lambda: iter(self.preview()))
