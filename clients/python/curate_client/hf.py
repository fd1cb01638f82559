"""HF Trainer and TRL: batches from a session, per-row losses back, and the place in the stream inside every checkpoint.

>>> class CuratedTrainer(CurateTrainerMixin, Trainer): ...
>>> trainer = CuratedTrainer(model=model, args=args, train_dataset=CurateIterableDataset(session), data_collator=PadCollator())
>>> trainer.train(resume_from_checkpoint=last_checkpoint(args.output_dir))

The mixin does what callbacks cannot: it carries row numbers past the collator to the loss, and reads batches one at a time. (The stock loader
fetches one batch ahead, which a method that waits for the losses of the last batch cannot serve.)
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from .dataset import OF, ROW, STEP, WEIGHT, CurateIterableDataset, barrier
from .errors import CurateError
from .rewards import CurateReward

TAGS = "curate_tags"


def row_losses(outputs: Any, labels: Optional[torch.Tensor]) -> torch.Tensor:
    """Mean loss a trained token of each row, without gradient.

    From ``logits`` this costs one more pass over them (forward only), a row at a time, so that the extra memory is one row of float logits. Outputs of
    TRL's fused head bring log-probabilities of the labels, and cost nothing.
    """
    with torch.no_grad():
        if getattr(outputs, "log_probs", None) is not None and getattr(outputs, "label_mask", None) is not None:
            mask = outputs.label_mask.to(outputs.log_probs.dtype)
            return -(outputs.log_probs.detach() * mask).sum(-1).float() / mask.sum(-1).float()
        logits = outputs["logits"] if isinstance(outputs, dict) else getattr(outputs, "logits", None)
        if logits is None or labels is None:
            raise CurateError("client/no-logits", "per-row losses need the model's logits and labels", hint="switch off the fused loss (use_liger_kernel), or send losses with dataset.feedback")
        if logits.shape[0] != labels.shape[0]:
            raise CurateError("client/packed", "rows are packed into one sequence, and have no loss of their own", hint="switch off packing and padding_free")
        return torch.stack([row_loss(logits[place], labels[place]) for place in range(len(labels))])


def row_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of one row; NaN where no token is trained on."""
    targets = labels[1:].to(logits.device)
    losses = torch.nn.functional.cross_entropy(logits[: len(targets)].float(), targets, ignore_index=-100, reduction="sum")
    return losses / (targets != -100).sum()


def last_checkpoint(folder: str) -> Optional[str]:
    """The newest checkpoint that is whole, if any: a trainer killed while it saves leaves one without a readable ``trainer_state.json``, which is written last."""
    found = []
    for path in Path(folder).glob("checkpoint-*"):
        try:
            found.append((int(json.loads((path / "trainer_state.json").read_text())["global_step"]), str(path)))
        except (OSError, ValueError, KeyError):
            continue
    return max(found)[1] if found else None


class PadCollator:
    """Pads ``input_ids`` and ``labels`` (a session with ``render: tokens``) on the right, and makes the attention mask."""

    def __init__(self, pad_id: int = 0, multiple_of: int = 1) -> None:
        self.pad_id, self.multiple_of = pad_id, multiple_of

    def __call__(self, features: List[Dict[str, Any]]) -> Dict[str, torch.Tensor]:
        longest = max(len(feature["input_ids"]) for feature in features)
        width = -(-longest // self.multiple_of) * self.multiple_of
        return {
            "input_ids": self._pad(features, "input_ids", width, self.pad_id),
            "labels": self._pad(features, "labels", width, -100),
            "attention_mask": torch.tensor([[1] * len(f["input_ids"]) + [0] * (width - len(f["input_ids"])) for f in features]),
        }

    @staticmethod
    def _pad(features: List[Dict[str, Any]], name: str, width: int, filler: int) -> torch.Tensor:
        return torch.tensor([list(feature[name]) + [filler] * (width - len(feature[name])) for feature in features])


class TaggedCollator:
    """Hands row numbers and steps on beside what the trainer's own collator makes of the rows."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, features: List[Dict[str, Any]]) -> Dict[str, Any]:
        tags = [[feature[STEP], feature[ROW], feature[OF]] for feature in features]
        bare = [{key: value for key, value in feature.items() if key not in (ROW, STEP, OF, WEIGHT)} for feature in features]
        batch = dict(self.inner(bare))
        batch[TAGS] = torch.tensor(tags, dtype=torch.int64)
        return batch


class CurateCallback(TrainerCallback, ExportableState):
    """Sends the losses of every whole step, writes the place in the stream into the checkpoint's ``trainer_state.json``, and goes back to it on resume.

    With ``reward`` (a `CurateReward`) it is the rewards that are sent, and no mixin is needed.
    """

    def __init__(self, dataset: Optional[CurateIterableDataset] = None, reward: Optional[CurateReward] = None) -> None:
        self.dataset = dataset
        self.reward = reward
        self.fed_by_trainer = False
        self.position: Optional[Dict[str, Any]] = None

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The stream goes back by itself: the trainer must not skip batches on resume."""
        args.ignore_data_skip = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go to the place of the checkpoint that is resumed from."""
        dataset = self._dataset()
        if not self.fed_by_trainer and self.reward is None:
            raise CurateError("client/no-mixin", "nothing hands losses to this callback", hint="class MyTrainer(CurateTrainerMixin, Trainer)")
        if not args.ignore_data_skip:
            raise CurateError("client/data-skip", "the trainer would skip batches of a stream that goes back by itself", hint="set ignore_data_skip=True")
        rows = args.per_device_train_batch_size * max(1, args.n_gpu) * args.gradient_accumulation_steps
        check_lag(dataset, rows) if self.reward is None else check_ahead(dataset)
        if state.global_step == 0:
            return
        saved = (state.stateful_callbacks.get(type(self).__name__) or {}) if isinstance(state.stateful_callbacks, dict) else {}
        position = saved.get("attributes", {}).get("position")
        if not position:
            raise CurateError("client/no-position", "the checkpoint has no place in a session", hint="it was written without CurateCallback; start anew, or load_state_dict by hand")
        dataset.load_state_dict(position)
        dataset.finished = state.global_step >= state.max_steps  # the trainer would take one more step before it looks

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Send what is whole; before a checkpoint, wait until every rank has."""
        self._dataset().feedback.flush()
        wait = barrier()
        if control.should_save and wait is not None:
            wait()

    def state(self) -> Dict[str, Any]:
        """What the checkpoint keeps."""
        return {"args": {}, "attributes": {"position": None if self.dataset is None else self.dataset.feedback.state_dict()}}

    def _dataset(self) -> CurateIterableDataset:
        if self.dataset is None:
            raise CurateError("client/callback", "CurateCallback has no dataset", hint="leave restore_callback_states_from_checkpoint off; the callback restores itself")
        return self.dataset


def check_lag(dataset: CurateIterableDataset, rows: int) -> None:
    """Refuse what would wait for itself: an optimizer step of ``rows`` rows is drawn whole before any of its losses exist."""
    batch = int(dataset.session.wait_ready()["batch"])
    # optimizer step k ends inside session step ceil(k rows / batch), and floor((k - 1) rows / batch) steps are fed by then
    needed = max(-(-k * rows // batch) - 1 - (k - 1) * rows // batch for k in range(1, batch // math.gcd(rows, batch) + 1))
    if dataset.stream.lag < needed:
        raise CurateError(
            "client/lag", f"an optimizer step takes {rows} rows and the session hands out {batch} a step, so {needed} steps of feedback are outstanding; it allows {dataset.stream.lag}",
            hint=f"create the session with batch: {rows}, or lag: {needed}",
        )


def check_ahead(dataset: CurateIterableDataset) -> None:
    """Refuse a session that cannot serve a loader which fetches one batch ahead."""
    dataset.session.wait_ready()
    if dataset.stream.lag < 1:
        raise CurateError("client/lag", "this trainer's loader fetches one batch ahead, and the session waits for the rewards of the last", hint="create the session with lag: 1")


class CurateTrainerMixin:
    """Put before a Trainer class whose ``train_dataset`` is a `CurateIterableDataset`.

    Adds a `CurateCallback` where none was passed. With TRL's SFTTrainer use ``render: tokens`` and ``dataset_kwargs={"skip_prepare_dataset": True}``: rows
    arrive tokenized, with labels.
    """

    curate_dataset: Optional[CurateIterableDataset] = None

    def __init__(self, *args: Any, train_dataset: Any = None, **kwargs: Any) -> None:
        shown = train_dataset
        if isinstance(train_dataset, CurateIterableDataset):
            self.curate_dataset = train_dataset
            if any(base.__module__.startswith("trl.") for base in type(self).__mro__):
                shown = train_dataset.preview_datasets()  # TRL looks at a row, and takes no other class
        super().__init__(*args, train_dataset=shown, **kwargs)  # type: ignore[call-arg]
        if self.curate_dataset is not None:
            self.train_dataset = self.curate_dataset
            self._feed_callback()

    def _feed_callback(self) -> None:
        trainer: Any = self
        callbacks = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, CurateCallback)]
        if not callbacks:
            callbacks = [CurateCallback(self.curate_dataset)]
            trainer.add_callback(callbacks[0])
            callbacks[0].on_init_end(trainer.args, trainer.state, trainer.control)
        callbacks[0].fed_by_trainer = True

    def get_train_dataloader(self) -> Any:
        """A loader that reads one batch at a time and carries row numbers; on several processes each reads its own rank's rows."""
        trainer: Any = self
        if self.curate_dataset is None:
            return super().get_train_dataloader()  # type: ignore[misc]
        collator = trainer._get_collator_with_removed_columns(trainer.data_collator, description="training")
        return DataLoader(
            self.curate_dataset,
            batch_size=trainer._train_batch_size,
            collate_fn=TaggedCollator(collator),
            num_workers=trainer.args.dataloader_num_workers,
            pin_memory=trainer.args.dataloader_pin_memory and torch.cuda.is_available(),
            generator=torch.Generator(),  # a loader draws a seed when it starts: from the global generator, dropout after a resume would differ
        )

    def compute_loss(self, model: Any, inputs: Dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss; on the way, note each row's own."""
        tags = inputs.pop(TAGS, None)
        if tags is None or self.curate_dataset is None:
            return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        labels, caught = inputs.get("labels"), []  # type: ignore[var-annotated]
        hook = model.register_forward_hook(lambda _model, _args, outputs: caught.append(outputs))
        try:
            result = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        finally:
            hook.remove()
        self.note_losses(tags.tolist(), row_losses(caught[0], labels).tolist())
        return result

    def note_losses(self, tags: List[List[int]], losses: List[float]) -> None:
        """Hand losses of rows to the feedback; tags are ``[step, row, rows in the step]``. Override to see or change what is sent."""
        if self.curate_dataset is not None:
            self.curate_dataset.feedback.note(tags, loss=losses)
