"""Median seconds of prompt selection and its update with numpy: python mopps.py PROMPTS TAKEN."""
import sys
import time

import numpy as np

prompts, taken = int(sys.argv[1]), int(sys.argv[2])
rng = np.random.default_rng(1)
successes = (np.arange(prompts) % 9).astype(float)
alpha, beta = 1 + successes, 1 + 8 - successes
secs = []
for step in range(21):
    begun = time.perf_counter()
    draws = rng.beta(alpha, beta)
    distance = np.square(draws - 0.5)
    chosen = np.argpartition(distance, taken)[:taken]
    chosen = chosen[np.argsort(distance[chosen])]
    successes = ((chosen ^ step) % 9).astype(float)
    alpha[chosen] = 0.5 * alpha[chosen] + 0.5 + successes
    beta[chosen] = 0.5 * beta[chosen] + 0.5 + (8 - successes)
    secs.append(time.perf_counter() - begun)
print(sorted(secs)[len(secs) // 2])
