"""Small random models with the logits, losses and gradients PyTorch gives for them: the trainer's goldens.

    python datasets/recipes/trainer_golden/make.py datasets/golden/trainer

Needs torch, transformers, peft and safetensors. Weights are random (seed 17), so nothing here is anybody's work.
Each folder holds a model as `transformers` saves it, golden.json (tokens, labels, losses) and golden.safetensors (logits,
gradients of the summed loss); two also hold a PEFT adapter and its gradients.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

BASE = dict(vocab_size=97, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
MODELS = {
    "llama": dict(model_type="llama", rope_parameters=LLAMA3),
    "llama-tied": dict(model_type="llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "mistral": dict(model_type="mistral", sliding_window=5, head_dim=8),
    "qwen2": dict(model_type="qwen2", tie_word_embeddings=True,
                  rope_parameters=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0,
                                       original_max_position_embeddings=16)),
    "qwen3": dict(model_type="qwen3", head_dim=12,
                  rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=2.0)),
}
ADAPTERS = {"llama": ["q_proj", "v_proj", "down_proj"], "qwen2": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                                                                   "up_proj", "down_proj"]}
LENGTHS = (11, 1, 17, 6)


def randomise(model):
    """Weights that make every part matter: the usual initialisation is nearly the identity."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            norm = name.endswith("norm.weight") or "layernorm" in name
            p.copy_(1 + 0.3 * torch.randn_like(p) if norm else 0.15 * torch.randn_like(p))


def batch():
    g = torch.Generator().manual_seed(17)
    tokens = [torch.randint(0, 97, (n,), generator=g) for n in LENGTHS]
    labels = [t.clone() for t in tokens]
    labels[0][:4] = -100
    labels[2][9:12] = -100
    return tokens, labels


def losses(model, tokens, labels):
    out = []
    for t, l in zip(tokens, labels):
        logits = model(input_ids=t[None]).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], l[1:], ignore_index=-100, reduction="sum")
        out.append((logits, loss))
    return out


def gradients(model, tokens, labels):
    model.zero_grad()
    results = losses(model, tokens, labels)
    sum(loss for _, loss in results).backward()
    return results, {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def old_keys(folder):
    """The configuration as releases before 5 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def adapter(model, name, folder, tokens, labels):
    peft = get_peft_model(model, LoraConfig(r=4, lora_alpha=6, target_modules=ADAPTERS[name], lora_dropout=0.0,
                                            task_type="CAUSAL_LM"))
    with torch.no_grad():
        for key, p in peft.named_parameters():
            if "lora_" in key:
                p.copy_(0.2 * torch.randn_like(p))
    results, grads = gradients(peft, tokens, labels)
    peft.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    plain = {f"grad.{key.replace('.default', '')}": value for key, value in grads.items()}
    plain |= {f"logits.{i}": logits.detach() for i, (logits, _) in enumerate(results)}
    save_file(plain, folder / "adapter" / "golden.safetensors")
    return [loss.item() for _, loss in results]


def make(name, folder):
    torch.manual_seed(17)
    config = AutoConfig.for_model(**(BASE | MODELS[name]))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomise(model)
    if name == "mistral":
        model = model.bfloat16()
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="60KB" if name == "qwen2" else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if name in ("llama", "mistral"):
        old_keys(folder)
    # Read again: bfloat16() also rounds the frequencies, which are no weights.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokens, labels = batch()
    results, grads = gradients(model, tokens, labels)
    tensors = {f"grad.{key}": value for key, value in grads.items()}
    tensors |= {f"logits.{i}": logits.detach() for i, (logits, _) in enumerate(results)}
    save_file(tensors, folder / "golden.safetensors")
    prompt = tokens[0][:5]
    greedy = model.generate(prompt[None], max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
    golden = dict(tokens=[t.tolist() for t in tokens], labels=[l.tolist() for l in labels],
                  losses=[loss.item() for _, loss in results], prompt=prompt.tolist(),
                  greedy=greedy[0, len(prompt):].tolist())
    if name in ADAPTERS:
        golden["adapter_losses"] = adapter(model, name, folder, tokens, labels)
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def ropes(path):
    """Turns a token and factor of each kind of stretching, at the sizes of real models."""
    kinds = {
        "linear": dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
        "llama3": dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                       original_max_position_embeddings=8192),
        "yarn": dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0, original_max_position_embeddings=32768),
        "yarn-mscale": dict(rope_type="yarn", rope_theta=10000.0, factor=40.0, original_max_position_embeddings=4096,
                            beta_fast=24, beta_slow=2, mscale=0.9, mscale_all_dim=0.7, truncate=False),
    }
    out = []
    for name, kind in kinds.items():
        config = AutoConfig.for_model(**(BASE | dict(model_type="llama", head_dim=128, rope_parameters=kind)))
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind["rope_type"]](config, device="cpu")
        out.append(dict(name=name, config=BASE | dict(model_type="llama", head_dim=128, rope_parameters=kind),
                        frequencies=frequencies.tolist(), factor=float(factor)))
    path.write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for each in MODELS:
        make(each, root / each)
    ropes(root / "rope.json")
