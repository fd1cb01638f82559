"""The other side of the peer benchmarks: what people would use in Python, on the same data and from the same start.

    pip install numpy faiss-cpu scikit-learn superkmeans tokenizers
    python kernels/benches/peers.py data --dir /tmp/peers                    # vectors and starts as .npy, once
    python kernels/benches/peers.py kmeans --dir /tmp/peers --k 1000 --threads 1
    python kernels/benches/peers.py knn --dir /tmp/peers --threads 1
    python kernels/benches/peers.py tokenize --tokenizer tokenizer.json --texts texts.txt --threads 1

Each prints one JSON line a peer: median wall seconds, CPU seconds, quality figure. Ours on the same files:
`cargo bench -p curate-kernels --bench peers -- kmeans ...` (see peers.rs) and `curate bench tokenize --data texts.txt`.
On a shared machine take one thread, compare CPU seconds, and alternate the two sides.
"""
import argparse, json, os, sys, time


def clustered(n, d, seed):
    """Unit vectors around n / 500 centres, the noise as long as the centre."""
    import numpy as np
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, n // 500), d), dtype=np.float32)
    x = centres[rng.integers(0, len(centres), n)] + rng.standard_normal((n, d), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def data(a):
    import numpy as np
    os.makedirs(a.dir, exist_ok=True)
    x = clustered(a.n, a.d, 1)
    np.save(f"{a.dir}/x.npy", x)
    for k in (100, 1000):
        np.save(f"{a.dir}/start{k}.npy", x[np.random.default_rng(k).choice(a.n, k, replace=False)])
    both = clustered(21_000, a.d, 2)
    np.save(f"{a.dir}/queries.npy", both[:1000])
    np.save(f"{a.dir}/base.npy", both[1000:])


def timed(name, reps, run, figure):
    walls, cpus, out = [], [], None
    for _ in range(reps):
        wall, cpu = time.perf_counter(), time.process_time()
        out = run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    middle = lambda v: round(sorted(v)[len(v) // 2], 4)
    print(json.dumps({"peer": name, "median_s": middle(walls), "cpu_s": middle(cpus), **figure(out)}), flush=True)


def kmeans(a):
    import faiss, numpy as np
    from sklearn.cluster import KMeans
    from superkmeans import SuperKMeans
    x, start = np.load(f"{a.dir}/x.npy"), np.load(f"{a.dir}/start{a.k}.npy")
    n, d = x.shape
    faiss.omp_set_num_threads(a.threads)

    def inertia(c):
        index = faiss.IndexFlatL2(d)
        index.add(np.ascontiguousarray(c, np.float32))
        return {"inertia": round(float(index.search(x, 1)[0].astype(np.float64).sum()), 2)}

    def with_faiss():
        km = faiss.Kmeans(d, a.k, niter=a.iters, max_points_per_centroid=n, min_points_per_centroid=1)
        km.train(x, init_centroids=start)
        return km.centroids

    def with_superkmeans():
        return SuperKMeans(a.k, d, hierarchical=False, iters=a.iters, sampling_fraction=1.0, max_points_per_cluster=n,
                           tol=0.0, n_threads=a.threads, seed=1, early_termination=False).train(x)

    def with_sklearn():
        return KMeans(a.k, init=start, n_init=1, max_iter=a.iters, tol=0.0, algorithm="lloyd").fit(x).cluster_centers_

    for name, run in (("faiss", with_faiss), ("superkmeans (own start)", with_superkmeans), ("scikit-learn", with_sklearn)):
        timed(name, a.reps, run, inertia)


def knn(a):
    import faiss, numpy as np
    faiss.omp_set_num_threads(a.threads)
    base, queries = np.load(f"{a.dir}/base.npy"), np.load(f"{a.dir}/queries.npy")
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    timed("faiss flat", 3 * a.reps, lambda: index.search(queries, 10), lambda _: {"recall": 1.0})


def tokenize(a):
    from tokenizers import Tokenizer
    with open(a.texts, encoding="utf-8") as f:
        texts = f.read().splitlines()
    tk = Tokenizer.from_file(a.tokenizer)
    tk.no_truncation(), tk.no_padding()
    figure = lambda out: {"texts": len(texts), "tokens": sum(len(e.ids) for e in out)}
    timed("tokenizers", a.reps, lambda: tk.encode_batch(texts, add_special_tokens=False), figure)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("data", "kmeans", "knn", "tokenize"))
    p.add_argument("--dir", default="/tmp/peers")
    p.add_argument("--n", type=int, default=100_000)
    p.add_argument("--d", type=int, default=384)
    p.add_argument("--k", type=int, default=1000)
    p.add_argument("--iters", type=int, default=10)
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--texts")
    p.add_argument("--tokenizer")
    a = p.parse_args()
    # The libraries read these when they are loaded, so they are set first and the script starts anew.
    wanted = {name: str(a.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")}
    wanted["TOKENIZERS_PARALLELISM"] = "true" if a.threads > 1 else "false"
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    globals()[a.what](a)


if __name__ == "__main__":
    main()
