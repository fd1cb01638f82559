"""Rewards: the GRPO wrapper, and the sampler against verl's interface."""

from __future__ import annotations

import json
import unittest
from typing import Any, List, Optional

from curate_client import CurateError, Feedback, RowStream
from curate_client.rewards import CurateReward
from curate_client.verl import CurateSampler
from tests.support import ServerCase, spec

NEEDS = {"before": [], "after": ["signal.successes", "signal.trials"]}


class Grpo(ServerCase):
    def test_successes_and_trials_of_each_prompt_are_sent_when_all_its_completions_are_rewarded(self) -> None:
        session = self.session(needs=NEEDS)
        stream, feedback = RowStream(session), Feedback(session)
        drawn = [next(stream) for _ in range(4) for _ in range(1)]
        repeated = [d for d in drawn for _ in range(3)]
        values: List[Optional[float]] = [1.0, 0.0, 1.0] + [0.0] * 3 + [1.0] * 3 + [None, 0.4, 0.5]
        reward = CurateReward(lambda completions, **_: completions, feedback, generations=3)
        tags = {"_curate_step": [d.step for d in repeated], "_curate_row": [d.row.row for d in repeated], "_curate_of": [d.of for d in repeated]}
        self.assertEqual(reward(completions=values, prompts=[""] * 12, **tags), values)
        self.assertEqual(self.calls("/feedback")[0]["signals"], {"successes": [2.0, 0.0, 3.0, 1.0], "trials": [3.0] * 4})
        reward(completions=values, prompts=[""] * 12, **tags)  # the same batch generated again
        self.assertEqual(len(self.calls("/feedback")), 1)

    def test_completions_without_tags_are_refused(self) -> None:
        reward = CurateReward(lambda completions, **_: completions, Feedback(self.session()), generations=1)
        with self.assertRaises(CurateError) as raised:
            reward(completions=[1.0])
        self.assertEqual(raised.exception.code, "client/no-tags")


class Tensor(list):
    """As much of a tensor of scores as verl's batch needs here."""

    def sum(self, _axis: int) -> "Tensor":
        return Tensor(sum(row) for row in self)

    def tolist(self) -> List[Any]:
        return list(self)


class DataProto:
    """verl's batch: two answers of each prompt, in another order than they were drawn."""

    def __init__(self, rows: List[int], rewards: List[float], key: str = "index") -> None:
        pairs = sorted(zip(rows * 2, rewards), reverse=True)
        self.non_tensor_batch = {key: [row for row, _ in pairs]}
        self.batch = {"token_level_scores": Tensor([0.0, reward] for _, reward in pairs)}


class Verl(ServerCase):
    def sampler(self, **config: Any) -> CurateSampler:
        common = {"curate_url": self.server.url, "curate_session": "run", "curate_spec": spec(needs=NEEDS, rows=10, render="rows")}
        return CurateSampler(range(10), {"sampler": {**common, **config}})

    @staticmethod
    def rewards(rows: List[int], step: int) -> List[float]:
        return [float((row + step + turn) % 3 == 0) for turn in (0, 1) for row in rows]

    def train(self, sampler: CurateSampler, rows: Any, steps: int) -> List[List[int]]:
        seen = []
        for step in range(steps):
            batch = [next(rows) for _ in range(4)]
            seen.append(batch)
            self.saved = json.dumps(sampler.state_dict())  # verl saves before it hands over the rewards
            sampler.update(DataProto(batch, self.rewards(batch, len(self.server.sessions["run"].drawn))))
        return seen

    def test_a_pass_is_whole_steps_and_rewards_travel(self) -> None:
        sampler = self.sampler()
        self.assertEqual(len(sampler), 8)
        rows = self.train(sampler, iter(sampler), 2)
        sent = self.calls("/feedback")
        self.assertEqual([call["rows"] for call in sent], rows)
        self.assertEqual(sent[0]["signals"]["trials"], [2.0] * 4)
        expected = self.rewards(rows[0], 1)
        self.assertEqual(sent[0]["signals"]["successes"], [expected[place] + expected[place + 4] for place in range(4)])

    def test_a_pass_ends_and_the_next_goes_on(self) -> None:
        sampler = self.sampler()
        rows = iter(sampler)
        first = self.train(sampler, rows, 2)
        self.assertIsNone(next(rows, None))
        second = self.train(sampler, iter(sampler), 2)
        self.assertEqual(self.server.sessions["run"].drawn, first + second)

    def test_resumed_it_draws_what_an_unbroken_run_draws(self) -> None:
        sampler = self.sampler()
        whole = self.train(sampler, iter(sampler), 2) + self.train(sampler, iter(sampler), 2)
        del self.server.sessions["run"]
        sampler = self.sampler()
        rows = iter(sampler)
        first = self.train(sampler, rows, 1)
        saved = self.saved
        self.train(sampler, rows, 1)
        sampler = self.sampler()
        sampler.load_state_dict(json.loads(saved))
        rest = self.train(sampler, iter(sampler), 1) + self.train(sampler, iter(sampler), 2)
        self.assertEqual(first + rest, whole)

    def test_rewards_that_never_came_do_not_stop_the_session(self) -> None:
        sampler = self.sampler()
        rows = iter(sampler)
        [next(rows) for _ in range(4)]
        saved = sampler.state_dict()  # and verl dies here
        sampler = self.sampler()
        sampler.load_state_dict(saved)
        self.assertEqual(len(self.train(sampler, iter(sampler), 1)), 1)
        self.assertTrue(self.calls("/feedback")[0]["skip"])

    def test_an_index_that_is_not_the_place_is_found_out(self) -> None:
        sampler = self.sampler()
        rows = iter(sampler)
        batch = [next(rows) for _ in range(4)]
        with self.assertRaises(CurateError) as raised:
            sampler.update(DataProto([row + 100 for row in batch], [1.0] * 8))
        self.assertEqual(raised.exception.code, "client/index")

    def test_a_session_of_another_file_is_found_out(self) -> None:
        sampler = CurateSampler(range(2), {"sampler": {"curate_url": self.server.url, "curate_session": self.session("big").id}})
        with self.assertRaises(CurateError) as raised:
            list(sampler)
        self.assertEqual(raised.exception.code, "client/rows")


if __name__ == "__main__":
    unittest.main()
