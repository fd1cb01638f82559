"""A training loop that can be killed at any moment and goes on with the rows an unbroken run would have seen.

    curate serve --allow .
    python pytorch_loop.py http://127.0.0.1:7878 run-7 spec.json MODEL_FOLDER checkpoint.pt 200

(The model is as it was loaded, with dropout off. With dropout, keep torch's random state in the checkpoint as well.)
"""

import json, os, sys
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM
from curate_client import Client, CurateIterableDataset
from curate_client.hf import PadCollator, TaggedCollator, row_losses

url, name, spec, folder, checkpoint, steps = *sys.argv[1:6], int(sys.argv[6])
model = AutoModelForCausalLM.from_pretrained(folder)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

dataset = CurateIterableDataset(Client(url).create_session(json.load(open(spec)), id=name))
if os.path.exists(checkpoint):
    saved = torch.load(checkpoint)
    model.load_state_dict(saved["model"]), optimizer.load_state_dict(saved["optimizer"])
    dataset.load_state_dict(saved["place"])
for batch in DataLoader(dataset, batch_size=8, collate_fn=TaggedCollator(PadCollator())):
    tags = batch.pop("curate_tags").tolist()
    outputs = model(**batch)
    outputs.loss.backward(), optimizer.step(), optimizer.zero_grad()
    dataset.feedback.note(tags, loss=row_losses(outputs, batch["labels"]).tolist())
    dataset.feedback.flush()
    step, place = tags[0][0], dataset.feedback.state_dict()
    print(step, [row for _, row, _ in tags], flush=True)
    if step % 10 == 0:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "place": place}, checkpoint + ".new")
        os.replace(checkpoint + ".new", checkpoint)
    if step == steps:
        break
