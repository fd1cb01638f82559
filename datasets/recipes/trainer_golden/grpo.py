"""Advantages, losses and slopes of GRPO by PyTorch's automatic differentiation in 64 bits: the golden of the objective.

    python datasets/recipes/trainer_golden/grpo.py datasets/golden/trainer/grpo.json

Needs torch. The formulas are written from the papers (see trainer/src/grpo); numbers are random (seed 17). Every case holds the
log-probabilities of all tokens of all answers now, when they were drawn and under the reference, and what follows from them.
"""
import json
import sys

import torch

torch.set_default_dtype(torch.float64)
LONGEST = 9
CASES = [
    dict(loss_type="grpo", epsilon=0.2),
    dict(loss_type="dapo", epsilon=0.2, epsilon_high=0.28),
    dict(loss_type="dr_grpo", epsilon=0.1, scale_rewards="none"),
    dict(loss_type="dapo", epsilon=0.2, delta=1.5, beta=0.0),
    dict(loss_type="grpo", epsilon=0.2, epsilon_high=0.3, delta=2.0, beta=0.04),
    dict(loss_type="dr_grpo", epsilon=0.2, beta=0.1),
]


def advantages(rewards, scale):
    centred = rewards - rewards.mean()
    return centred if scale == "none" else centred / (rewards.std(unbiased=True) + 1e-6)


def loss(log_probs, old, reference, advantage, case):
    low, high = 1 - case["epsilon"], 1 + case.get("epsilon_high", case["epsilon"])
    beta, delta = case.get("beta", 0.0), case.get("delta", float("inf"))
    sums, clipped = [], 0
    for now, then, ref, a in zip(log_probs, old, reference, advantage):
        ratio = torch.exp(now - then)
        free, held = torch.clamp(ratio, max=delta) * a, torch.clamp(ratio, low, high) * a
        tokens = -torch.minimum(free, held)
        cut = (ratio > high) if a > 0 else ((ratio < low) | (ratio > delta)) & (a < 0)
        clipped += int(cut.sum())
        if beta:
            gap = ref - now
            tokens = tokens + beta * (torch.exp(gap) - gap - 1)
        sums.append(tokens.sum())
    lengths = torch.tensor([len(x) for x in log_probs]).double()
    sums = torch.stack(sums)
    if case["loss_type"] == "grpo":
        return (sums / lengths).mean(), clipped
    if case["loss_type"] == "dapo":
        return sums.sum() / lengths.sum(), clipped
    return sums.sum() / (len(sums) * LONGEST), clipped


def main(path):
    g = torch.Generator().manual_seed(17)
    out = []
    for case in CASES:
        lengths = torch.randint(1, LONGEST + 1, (8,), generator=g).tolist()
        rewards = torch.randint(0, 2, (8,), generator=g).double() if "delta" in case else torch.rand(8, generator=g)
        old = [-3 * torch.rand(n, generator=g) for n in lengths]
        log_probs = [(x + 0.3 * torch.randn(len(x), generator=g)).requires_grad_() for x in old]
        reference = [x + 0.5 * torch.randn(len(x), generator=g) for x in old]
        advantage = advantages(rewards, case.get("scale_rewards", "group"))
        value, clipped = loss(log_probs, old, reference, advantage, case)
        value.backward()
        rows = lambda tensors: [t.tolist() for t in tensors]
        out.append(dict(config=case | dict(max_completion_length=LONGEST), rewards=rewards.tolist(),
                        advantages=advantage.tolist(), log_probs=rows([x.detach() for x in log_probs]), old=rows(old),
                        reference=rows(reference), loss=value.item(), clipped=clipped,
                        gradient=rows([x.grad for x in log_probs])))
    with open(path, "w") as file:
        json.dump(out, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
