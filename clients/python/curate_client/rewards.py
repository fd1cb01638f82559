"""Rewards of prompts as successes and trials, for TRL's GRPO.

>>> reward = CurateReward(accuracy_reward, dataset.feedback, generations=8)
>>> GRPOTrainer(model, reward_funcs=[reward], train_dataset=dataset.to_datasets(), args=GRPOConfig(shuffle_dataset=False, num_generations=8, ...))

Session: ``batch`` = prompts in a generation batch, ``lag`` 1 (the trainer's loader fetches one generation batch ahead), one rank. Checkpoints fit
when a generation batch is used up at the save: ``save_steps`` a multiple of the optimizer steps a generation batch serves.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

from .errors import CurateError
from .feedback import Feedback

Reward = Callable[..., List[Optional[float]]]


class CurateReward:
    """A reward function that also tells the session how often each prompt was solved.

    Args:
        reward: the function to wrap; called with everything TRL passes.
        feedback: of the dataset.
        generations: completions of each prompt.
        solved: reward from which a completion counts as a success.
    """

    def __init__(self, reward: Reward, feedback: Feedback, generations: int, solved: float = 0.5) -> None:
        self.reward, self.feedback, self.generations, self.solved = reward, feedback, generations, solved
        self.__name__ = getattr(reward, "__name__", type(reward).__name__)
        self._counts: Dict[Tuple[int, int], List[int]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> List[Optional[float]]:
        rewards = self.reward(*args, **kwargs)
        tags = [kwargs.get(name) for name in ("_curate_step", "_curate_row", "_curate_of")]
        if any(tag is None for tag in tags):
            raise CurateError("client/no-tags", "completions come without _curate_row", hint="CurateIterableDataset(tags=True), and remove_unused_columns=False")
        for step, row, of, value in zip(*tags, rewards):  # type: ignore[arg-type]
            self._count(int(step), int(row), int(of), value)
        self.feedback.flush()
        return rewards

    def _count(self, step: int, row: int, of: int, value: Optional[float]) -> None:
        if self.feedback.step is not None and step <= self.feedback.step:
            return  # generated again after a resume inside a generation batch: the first answer stands
        counts = self._counts.setdefault((step, row), [0, 0])
        counts[0] += int(value is not None and float(value) >= self.solved)
        counts[1] += 1
        if counts[1] == self.generations:
            del self._counts[(step, row)]
            self.feedback.add(step, [row], of, {"successes": [float(counts[0])], "trials": [float(counts[1])]})
