"""TRL's GRPOTrainer on prompts that a session chooses by how often they were solved. Run it again to resume.

    curate serve --allow .
    python trl_grpo.py http://127.0.0.1:7878 prompts.jsonl MODEL_FOLDER out
"""

import sys
from trl import GRPOConfig, GRPOTrainer
from curate_client import Client, CurateIterableDataset
from curate_client.hf import CurateCallback, last_checkpoint
from curate_client.rewards import CurateReward

url, prompts, folder, out = sys.argv[1:5]
plan = {"input": {"paths": [prompts]}, "seed": 17, "online": {"use": "mopps"}}
session = Client(url).create_session({"plan": plan, "batch": 8, "lag": 1}, id="trl-grpo")


def right(completions, answer, **_):
    return [float(text.strip().endswith(str(wanted))) for text, wanted in zip(completions, answer)]


# Columns of the file: question, answer. Eight prompts of eight completions are one generation batch.
dataset = CurateIterableDataset(session, transform=lambda row: {"prompt": row["question"], "answer": row["answer"]})
reward = CurateReward(right, dataset.feedback, generations=8)
args = GRPOConfig(
    output_dir=out, max_steps=200, save_steps=50, num_generations=8, per_device_train_batch_size=64, shuffle_dataset=False, remove_unused_columns=False
)
trainer = GRPOTrainer(folder, reward_funcs=[reward], args=args, train_dataset=dataset.to_datasets(), callbacks=[CurateCallback(dataset, reward)])
trainer.train(resume_from_checkpoint=last_checkpoint(out))
