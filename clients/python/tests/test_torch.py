"""Adapters of torch and transformers; without these libraries the tests say so."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import unittest
from types import SimpleNamespace
from typing import Any, Dict, List

try:
    import torch
    from torch.utils.data import DataLoader

    from curate_client import CurateIterableDataset
except ImportError:
    torch = None  # type: ignore[assignment]
try:
    import transformers
except ImportError:
    transformers = None  # type: ignore[assignment]
try:
    from torchdata.stateful_dataloader import StatefulDataLoader
except ImportError:
    StatefulDataLoader = None  # type: ignore[assignment,misc]

from curate_client import CurateError
from tests.support import ServerCase

FREE: Dict[str, List[str]] = {"before": [], "after": []}
for name, module in (("torch", torch), ("transformers", transformers), ("torchdata", StatefulDataLoader)):
    if module is None:
        print(f"SKIPPED: {name} is not installed, so its adapters are not tested", file=sys.stderr)


def rows_of(batches: Any) -> List[int]:
    return [row["_curate_row"] for batch in batches for row in batch]


def bare(batch: Any) -> Any:
    return batch


@unittest.skipIf(torch is None, "torch is not installed")
class Datasets(ServerCase):
    def test_rows_come_in_order_with_tags_and_transformed(self) -> None:
        session = self.session(needs=FREE, steps=2)
        dataset = CurateIterableDataset(session, transform=lambda data: {"length": len(data["text"])})
        rows = list(dataset)
        self.assertEqual([row["_curate_row"] for row in rows], sum(self.server.sessions["run"].drawn, []))
        self.assertEqual((rows[0]["_curate_step"], rows[0]["_curate_of"], sorted(rows[0])), (1, 4, ["_curate_of", "_curate_row", "_curate_step", "_curate_weight", "length"]))

    def test_a_worker_hands_out_the_same_rows_and_two_are_refused(self) -> None:
        session = self.session(needs=FREE, steps=5)
        whole = rows_of(DataLoader(CurateIterableDataset(session), batch_size=3, collate_fn=bare))
        self.assertEqual(len(whole), 20)
        for start in ("fork", "spawn"):
            with self.subTest(start=start):
                loader = DataLoader(CurateIterableDataset(session), batch_size=3, num_workers=1, collate_fn=bare, multiprocessing_context=start)
                self.assertEqual(rows_of(loader), whole)
        with self.assertRaisesRegex(Exception, "2 dataloader workers"):
            list(DataLoader(CurateIterableDataset(session), batch_size=3, num_workers=2, collate_fn=bare))

    @unittest.skipIf(StatefulDataLoader is None, "torchdata is not installed")
    def test_a_stateful_loader_resumes(self) -> None:
        session = self.session(needs=FREE, steps=5)
        whole = rows_of(StatefulDataLoader(CurateIterableDataset(session), batch_size=3, collate_fn=bare))
        for workers in (0, 1):
            with self.subTest(workers=workers):
                loader = StatefulDataLoader(CurateIterableDataset(session), batch_size=3, collate_fn=bare, num_workers=workers)
                batches = iter(loader)
                first = rows_of([next(batches) for _ in range(3)])
                state = json.loads(json.dumps(loader.state_dict(), default=str)) if workers == 0 else loader.state_dict()
                next(batches)
                loader = StatefulDataLoader(CurateIterableDataset(session), batch_size=3, collate_fn=bare, num_workers=workers)
                loader.load_state_dict(state)
                self.assertEqual(first + rows_of(loader), whole)

    def test_rank_and_world_come_from_the_environment(self) -> None:
        session = self.session(needs=FREE, ranks=2)
        os.environ.update(RANK="1", WORLD_SIZE="2")
        self.addCleanup(lambda: [os.environ.pop(name) for name in ("RANK", "WORLD_SIZE")])
        dataset = CurateIterableDataset(session)
        self.assertEqual((dataset.rank, dataset.world), (1, 2))
        with self.assertRaises(CurateError):
            next(iter(dataset))  # nobody to wait for


@unittest.skipIf(torch is None or transformers is None, "transformers is not installed")
class Trainers(ServerCase):
    def test_row_losses_are_those_of_each_row_alone(self) -> None:
        from curate_client.hf import row_losses

        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
        ).eval()
        ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0], [9, 9, 1, 0, 0]])
        labels = torch.tensor([[-100, 2, 3, 4, 5], [6, 7, 8, -100, -100], [9, -100, -100, -100, -100]])
        mask = (torch.arange(5) < torch.tensor([[5], [3], [3]])).long()
        outputs = model(input_ids=ids, attention_mask=mask)
        found = row_losses(outputs, labels)
        for place in (0, 1):
            n = int(mask[place].sum())
            alone = model(input_ids=ids[place : place + 1, :n], labels=labels[place : place + 1, :n]).loss
            self.assertAlmostEqual(found[place].item(), alone.item(), places=5)
        self.assertTrue(torch.isnan(found[2]))  # no token of it is trained on

    def test_fused_outputs_bring_their_losses(self) -> None:
        from curate_client.hf import row_losses

        fused = SimpleNamespace(log_probs=torch.tensor([[-1.0, -3.0, 0.0], [-2.0, 0.0, 0.0]]), label_mask=torch.tensor([[True, True, False], [True, False, False]]))
        self.assertEqual(row_losses(fused, None).tolist(), [2.0, 2.0])

    def test_packed_rows_and_missing_logits_are_named(self) -> None:
        from curate_client.hf import row_losses

        with self.assertRaises(CurateError) as raised:
            row_losses(SimpleNamespace(logits=None), torch.zeros(1, 2))
        self.assertEqual(raised.exception.code, "client/no-logits")
        with self.assertRaises(CurateError) as raised:
            row_losses({"logits": torch.zeros(1, 4, 3)}, torch.zeros(2, 2))
        self.assertEqual(raised.exception.code, "client/packed")

    def test_padding(self) -> None:
        from curate_client.hf import PadCollator

        batch = PadCollator(pad_id=9, multiple_of=4)([{"input_ids": [1, 2, 3, 4, 5], "labels": [-100, 2, 3, 4, 5]}, {"input_ids": [1], "labels": [1]}])
        self.assertEqual(batch["input_ids"].tolist(), [[1, 2, 3, 4, 5, 9, 9, 9], [1] + [9] * 7])
        self.assertEqual(batch["labels"].tolist(), [[-100, 2, 3, 4, 5, -100, -100, -100], [1] + [-100] * 7])
        self.assertEqual(batch["attention_mask"].sum(1).tolist(), [5, 1])

    def test_an_optimizer_step_that_would_wait_for_itself_is_refused(self) -> None:
        from curate_client.hf import check_lag

        # rows an optimizer step, the session's batch, lag: what is needed was found by hand
        for rows, batch, lag, good in ((4, 4, 0, True), (2, 4, 0, True), (8, 4, 0, False), (8, 4, 1, True), (12, 4, 1, False), (6, 4, 0, False), (6, 4, 1, True), (3, 4, 0, False), (3, 4, 1, True)):
            with self.subTest(rows=rows, batch=batch, lag=lag):
                dataset = CurateIterableDataset(self.session(f"s-{rows}-{batch}-{lag}", batch=batch, lag=lag))
                if good:
                    check_lag(dataset, rows)
                else:
                    with self.assertRaises(CurateError) as raised:
                        check_lag(dataset, rows)
                    self.assertEqual(raised.exception.code, "client/lag")
        check_lag(CurateIterableDataset(self.session("free", needs=FREE)), 1000)

    def test_a_checkpoint_without_a_place_is_not_resumed_from(self) -> None:
        from curate_client.hf import CurateCallback

        callback = CurateCallback(CurateIterableDataset(self.session()))
        callback.fed_by_trainer = True
        args = SimpleNamespace(ignore_data_skip=False, per_device_train_batch_size=4, n_gpu=0, gradient_accumulation_steps=1)
        state, control = SimpleNamespace(global_step=5, max_steps=5, stateful_callbacks={}), SimpleNamespace(should_save=False)
        callback.on_init_end(args, state, control)
        self.assertTrue(args.ignore_data_skip)
        with self.assertRaises(CurateError) as raised:
            callback.on_train_begin(args, state, control)
        self.assertEqual(raised.exception.code, "client/no-position")
        state.stateful_callbacks = {"CurateCallback": {"attributes": {"position": {"session": "run", "step": 5, "offset": 0, "cursor": None}}}}
        callback.on_train_begin(args, state, control)
        self.assertEqual((callback.dataset.feedback.step, list(callback.dataset)), (5, []))

    def test_a_checkpoint_cut_short_is_passed_over(self) -> None:
        from curate_client.hf import last_checkpoint

        with tempfile.TemporaryDirectory() as folder:
            self.assertIsNone(last_checkpoint(folder))
            for step, state in ((9, '{"global_step": 9}'), (10, '{"global_step": 10}'), (11, '{"global_st'), (12, None)):
                os.mkdir(os.path.join(folder, f"checkpoint-{step}"))
                if state:
                    with open(os.path.join(folder, f"checkpoint-{step}", "trainer_state.json"), "w") as file:
                        file.write(state)
            self.assertEqual(last_checkpoint(folder), os.path.join(folder, "checkpoint-10"))

    def test_a_callback_alone_is_refused(self) -> None:
        from curate_client.hf import CurateCallback

        with self.assertRaises(CurateError) as raised:
            CurateCallback(CurateIterableDataset(self.session())).on_train_begin(SimpleNamespace(), SimpleNamespace(), SimpleNamespace())
        self.assertEqual(raised.exception.code, "client/no-mixin")


if __name__ == "__main__":
    unittest.main()
