"""verl: a curriculum sampler that draws prompts from a session and sends back what they earned.

In the configuration::

    data:
      sampler: {class_path: pkg://curate_client.verl, class_name: CurateSampler, curate_url: http://…, curate_session: run-7}
      dataloader_num_workers: 0

The session brings no rows of its own here: it has ``render: rows``, ``batch`` = the training batch of verl, and its row numbers are places in
verl's data set. verl must be able to say which row an answer belongs to: ``extra_info.index`` of every row is its place (``curate_index`` names another key).
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sized

from .client import Client
from .errors import CurateError
from .feedback import Feedback
from .stream import RowStream

try:
    from verl.experimental.dataset.sampler import AbstractCurriculumSampler as Base
except ImportError:
    try:
        from torch.utils.data import Sampler as Base
    except ImportError:
        Base = object


class CurateSampler(Base):  # type: ignore[misc]
    """Yields places of rows; `update` takes the finished batch. One pass yields as many rows as the data set has, in whole steps of the session."""

    def __init__(self, data_source: Sized, data_config: Mapping[str, Any]) -> None:
        config = data_config["sampler"]
        self.data_source = data_source
        self.index_key = str(config.get("curate_index", "index"))
        self.solved = float(config.get("curate_solved", 0.5))
        client = Client(str(config["curate_url"]), config.get("curate_token"))
        spec = config.get("curate_spec")
        name = str(config["curate_session"])
        session = client.session(name) if spec is None else client.create_session(to_plain(spec), id=name)
        self.stream = RowStream(session)
        self.feedback = Feedback(session)
        self._taken = 0
        self._sizes: Dict[int, int] = {}
        self._steps: Dict[int, List[int]] = {}

    def __len__(self) -> int:
        batch = int(self.stream.session.info["batch"])
        return max(len(self.data_source) // batch, 1) * batch

    def __iter__(self) -> Iterator[int]:
        if self._taken >= len(self):
            self._taken = 0  # a pass that was drawn to its last row without asking for more
        while self._taken < len(self):
            drawn = next(self.stream, None)
            if drawn is None:
                return
            if drawn.row.row >= len(self.data_source):
                raise CurateError("client/rows", f"row {drawn.row.row} was drawn, and the data set has {len(self.data_source)} rows", hint="is the session of the same file?")
            self._taken += 1
            self._sizes[drawn.step] = drawn.of
            self._steps.setdefault(drawn.step, []).append(drawn.row.row)
            yield drawn.row.row
        self._taken = 0

    def update(self, batch: Any) -> None:
        """Send successes and trials of the prompts in a finished batch (a DataProto)."""
        indices = [int(index) for index in batch.non_tensor_batch[self.index_key]]
        scores = batch.batch["token_level_scores"].sum(-1).tolist()
        counts: Dict[int, List[int]] = {}
        for row, score in zip(indices, scores):
            tally = counts.setdefault(row, [0, 0])
            tally[0] += int(score >= self.solved)
            tally[1] += 1
        for step in sorted(self._steps):
            self._note(step, counts)
        self.feedback.flush()

    def _note(self, step: int, counts: Dict[int, List[int]]) -> None:
        """Rows of a step that are in the batch; rows verl left out (filtered groups) are noted without a signal once others of the step are in."""
        rows = self._steps[step]
        if not any(row in counts for row in rows):
            if counts and step == min(self._steps):
                raise CurateError(
                    "client/index", f"none of the rows of step {step} is in the batch under {self.index_key!r}",
                    hint="every row's extra_info.index must be its place in the data set",
                )
            return
        for row in rows:
            tally = counts.get(row)
            signals = {} if tally is None else {"successes": [float(tally[0])], "trials": [float(tally[1])]}
            self.feedback.add(step, [row], self._sizes[step], signals)
        del self._steps[step], self._sizes[step]

    def state_dict(self) -> Dict[str, Any]:
        """Behind the last row that was yielded. verl saves before it hands over the rewards of the step, so they may be missing; see `load_state_dict`."""
        return {**self.stream.state_dict(), "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Stand where a state says. Rewards of the last step that never came are declared missing, so that the session goes on."""
        self.stream.load_state_dict(state)
        self.stream.begin()
        self._steps, self._sizes, self.feedback = {}, {}, Feedback(self.stream.session)
        self._taken = int(state.get("taken", 0))
        step = int(state["step"])
        if step and self.stream.waits_for_feedback:
            self._settle(step)

    def _settle(self, step: int) -> None:
        try:
            self.stream.session.feedback(step, skip=True)
        except CurateError as error:
            if error.status != 409:
                raise  # 409: they had come


def to_plain(config: Any) -> Dict[str, Any]:
    """A configuration tree as plain dicts."""
    try:
        from omegaconf import OmegaConf
    except ImportError:
        return dict(config)
    found: Optional[Any] = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else dict(config)
    return dict(found or {})
