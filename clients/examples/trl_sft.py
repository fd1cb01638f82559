"""TRL's SFTTrainer on batches that a session chooses by the losses it is told. Run it again to resume.

    curate serve --allow .
    python trl_sft.py http://127.0.0.1:7878 spec.json MODEL_FOLDER out
"""

import json, sys
from trl import SFTConfig, SFTTrainer
from curate_client import Client, CurateIterableDataset
from curate_client.hf import CurateTrainerMixin, last_checkpoint

url, spec, folder, out = sys.argv[1:5]


class CuratedSft(CurateTrainerMixin, SFTTrainer):
    pass


session = Client(url).create_session(json.load(open(spec)), id="trl-sft")
args = SFTConfig(output_dir=out, max_steps=200, save_steps=50, per_device_train_batch_size=8, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
trainer = CuratedSft(model=folder, args=args, train_dataset=CurateIterableDataset(session))
trainer.train(resume_from_checkpoint=last_checkpoint(out))
trainer.save_model()
