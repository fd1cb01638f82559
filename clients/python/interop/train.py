"""A trainer that can be killed: draws from a session, resumes from its last checkpoint, and logs each row it trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, List

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from curate_client import Client, CurateIterableDataset
from curate_client.hf import CurateTrainerMixin, PadCollator, last_checkpoint


class Logged(CurateTrainerMixin):
    """Appends ``[optimizer step, session step, row, loss]`` of every row to a file."""

    log_path: Path

    def note_losses(self, tags: List[List[int]], losses: List[float]) -> None:
        step = self.state.global_step + 1  # type: ignore[attr-defined]
        with self.log_path.open("a") as file:
            for (of_session, row, _), loss in zip(tags, losses):
                file.write(json.dumps([step, of_session, row, loss]) + "\n")
        super().note_losses(tags, losses)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("url", "session", "spec", "out", "model", "trace"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--save", type=int, default=7)
    parser.add_argument("--rows", type=int, default=8, help="rows a forward pass")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--trl", action="store_true")
    return parser.parse_args()


def build(chosen: argparse.Namespace, dataset: CurateIterableDataset) -> Any:
    """The trainer: HF's, or TRL's for supervised tuning."""
    common = dict(
        output_dir=chosen.out, max_steps=chosen.steps, save_steps=chosen.save, save_total_limit=2, per_device_train_batch_size=chosen.rows,
        gradient_accumulation_steps=chosen.accumulate, learning_rate=1e-3, logging_steps=1000, report_to=[], use_cpu=True, disable_tqdm=True, seed=1,
    )
    model = AutoModelForCausalLM.from_pretrained(chosen.model)
    tokenizer = AutoTokenizer.from_pretrained(chosen.model)
    if chosen.trl:
        from trl import SFTConfig, SFTTrainer

        class CuratedSft(Logged, SFTTrainer):  # type: ignore[misc]
            log_path = Path(chosen.trace)

        args = SFTConfig(**common, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, bf16=False, gradient_checkpointing=False)
        return CuratedSft(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)

    class Curated(Logged, Trainer):  # type: ignore[misc]
        log_path = Path(chosen.trace)

    return Curated(model=model, args=TrainingArguments(**common), train_dataset=dataset, data_collator=PadCollator())


def main() -> None:
    chosen = options()
    torch.set_num_threads(1)
    session = Client(chosen.url).create_session(json.loads(Path(chosen.spec).read_text()), id=chosen.session)
    trainer = build(chosen, CurateIterableDataset(session))
    Path(chosen.out).mkdir(parents=True, exist_ok=True)
    trainer.train(resume_from_checkpoint=last_checkpoint(chosen.out))
    trainer.save_model(str(Path(chosen.out) / "final"))


if __name__ == "__main__":
    main()
