"""What evaluation costs: embeddings, k-means, neighbours, predictions, memory; and a Cityscapes validation from them.

    python benchmarks/evaluate.py --shards TRAIN VAL [--encoder RUN] [--rounds 5] [--cores 1]

K-means stands beside scikit-learn's MiniBatchKMeans (where it is installed) and neighbours beside brute force in NumPy:
ratios in one run on the same vectors, pinned to the same cores, medians of rounds after a warm-up. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from machine import machine, versions

from vice.evaluate.encoders.opening import open_encoder
from vice.evaluate.encoders.protocol import Encoder
from vice.evaluate.evaluators.heads import AffineHead, predict
from vice.evaluate.evaluators.kmeans import fit_clusters, on_gpu
from vice.evaluate.evaluators.neighbors import NeighborHead
from vice.evaluate.evaluators.patches import Memory
from vice.evaluate.options import KMeansSettings, NeighborSettings

HEIGHT, WIDTH, PICTURES = 1024, 2048, 500
"""Of Cityscapes' validation set."""
DIM, POINTS, CLUSTERS, CLASSES = 128, 100_000, 27, 27
QUERIES, MEMORY = 2000, 50_000


def timed(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way, run in turn after one warm-up each."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def vectors(count: int, key: int) -> np.ndarray:
    """Unit vectors round 50 centres: embeddings are not one cloud."""
    draws = np.random.Generator(np.random.Philox(key=key))
    centres = np.random.Generator(np.random.Philox(key=99)).standard_normal((50, DIM), np.float32)
    found = centres[draws.integers(0, 50, count)] + 0.6 * draws.standard_normal((count, DIM), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def kmeans_ways(points: np.ndarray) -> dict[str, Callable[[], float]]:
    """K-means with one start of 30 iterations, ours and scikit-learn's; each gives its mean squared distance."""
    settings = KMeansSettings(iterations=30, restarts=1, points_per_centroid=len(points))

    def ours() -> float:
        return fit_clusters(points, CLUSTERS, settings=settings).objective

    ways = {"FAISS, as vice-eval": ours}
    try:
        from sklearn.cluster import KMeans, MiniBatchKMeans
    except ModuleNotFoundError:
        return ways

    def of(method: object) -> Callable[[], float]:
        return lambda: method.fit(points).inertia_ / len(points)

    common = {"n_clusters": CLUSTERS, "n_init": 1, "random_state": 0}
    ways["scikit-learn MiniBatchKMeans"] = of(MiniBatchKMeans(**common, batch_size=4096, max_iter=30))
    ways["scikit-learn KMeans"] = of(KMeans(**common, max_iter=30, init="random"))
    return ways


def neighbor_ways(memory: Memory, queries: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Votes on the queries: ours exact and by inverted lists, and brute force in NumPy."""
    settings = NeighborSettings()
    grid = np.ascontiguousarray(queries.T).reshape(DIM, 40, -1)
    heads = {index: NeighborHead(memory, settings._replace(index=index), cells_a_side=1) for index in ("flat", "ivf")}
    mean = memory.vectors.mean(axis=0)

    def unit(vectors: np.ndarray) -> np.ndarray:
        return (vectors - mean) / np.linalg.norm(vectors - mean, axis=1, keepdims=True)

    known = unit(memory.vectors)

    def brute_force() -> np.ndarray:
        cosines = unit(queries) @ known.T
        nearest = np.argpartition(-cosines, settings.num_neighbors, axis=1)[:, : settings.num_neighbors]
        weights = np.exp(np.take_along_axis(cosines, nearest, axis=1) / settings.temperature)
        return np.einsum("qk,qkc->qc", weights, memory.shares[nearest]) / weights.sum(axis=1, keepdims=True)

    return {
        "flat": lambda: heads["flat"].scores(grid).reshape(CLASSES, -1).T,
        "ivf": lambda: heads["ivf"].scores(grid).reshape(CLASSES, -1).T,
        "NumPy": brute_force,
    }


def embedding_times(encoder: Encoder, rounds: int) -> dict[tuple[int, int], float]:
    """Seconds per picture of several sizes."""
    sizes = {(240, 320): 4, (480, 640): 1, (HEIGHT, WIDTH): 1}
    found = {}
    for (height, width), count in sizes.items():
        pictures = (
            np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (count, height, width, 3)).astype(np.uint8)
        )
        seconds = timed({"embed": lambda pictures=pictures: encoder.embed(pictures)}, rounds)["embed"]
        found[height, width] = seconds / count
    return found


def prediction_times(stride: int, rounds: int) -> dict[int, float]:
    """Seconds to predict every pixel of a Cityscapes picture, by number of classes or clusters."""
    cells = np.random.Generator(np.random.Philox(key=2)).standard_normal(
        (DIM, HEIGHT // stride, WIDTH // stride), np.float32
    )
    found = {}
    for count in (27, 128, 500):
        head = AffineHead(vectors(count, key=count), np.zeros(count, np.float32))

        def of(head: AffineHead = head) -> np.ndarray:
            return predict(head, cells, stride=stride, picture_size=(HEIGHT, WIDTH), size=(HEIGHT, WIDTH))

        found[count] = timed({"predict": of}, rounds)["predict"]
    return found


def peak_memory(train: str, val: str, encoder: str, max_vectors: int) -> float:
    """Peak resident MiB of a whole `vice-eval all`."""
    program = (
        "import re, sys; from vice.evaluate import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        # not getrusage's, which a new program inherits from the one that started it
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    )
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"vice-evaluate-memory-{os.getpid()}-{max_vectors}"
    words = [
        "all",
        encoder,
        "--train",
        train,
        "--val",
        val,
        "--run-dir",
        str(folder),
        "--max-vectors",
        str(max_vectors),
    ]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return int(done.stderr.split()[-1]) / 1024


def table(head: list[str], rows: list[list[object]]) -> str:
    """In Markdown."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", nargs=2, metavar=("TRAIN", "VAL"), help="labelled shards, to measure memory with")
    parser.add_argument("--encoder", default="timm/resnet18", help="as vice-eval takes it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", type=int, default=1)
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.cores])
    torch.set_num_threads(given.cores)
    faiss.omp_set_num_threads(given.cores)
    print(f"{machine()}, {versions()}, faiss {faiss.__version__} ({'GPU' if on_gpu() else 'CPU'})\n")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = open_encoder(given.encoder, device=device, untrained=False).encoder
    embedding = embedding_times(encoder, given.rounds)
    rows = [[f"{w}×{h}", f"{1 / s:.2f}", f"{h * w / encoder.stride**2 / s:,.0f}"] for (h, w), s in embedding.items()]
    print(table([given.encoder, "pictures/s", "embeddings/s"], rows))

    points = vectors(POINTS, key=3)
    ways = kmeans_ways(points)
    seconds = timed(ways, given.rounds)
    first = next(iter(seconds))
    rows = [[name, f"{s:.2f}", f"{s / seconds[first]:.2f}", f"{ways[name]():.4f}"] for name, s in seconds.items()]
    print(
        table([f"{CLUSTERS} clusters of {POINTS:,} vectors of {DIM}", "s", "relative", "mean squared distance"], rows)
    )

    memory = Memory(vectors(MEMORY, key=4), np.eye(CLASSES, dtype=np.float32)[np.arange(MEMORY) % CLASSES])
    voting = neighbor_ways(memory, vectors(QUERIES, key=5))
    exact = voting["NumPy"]().argmax(axis=1)
    neighbors = timed(voting, given.rounds)
    rows = [
        [
            name,
            f"{QUERIES / s:,.0f}",
            f"{s / neighbors['flat']:.2f}",
            f"{(voting[name]().argmax(axis=1) == exact).mean():.1%}",
        ]
        for name, s in neighbors.items()
    ]
    print(table([f"30 neighbours among {MEMORY:,}", "queries/s", "relative", "same class as brute force"], rows))

    predicting = prediction_times(4, given.rounds)
    print(table([f"predict {WIDTH}×{HEIGHT}", "s"], [[k, f"{s:.2f}"] for k, s in predicting.items()]))

    patches = (HEIGHT // 16) * (WIDTH // 16)
    each = {
        "embed": embedding[HEIGHT, WIDTH],
        "predict 27 classes": predicting[27],
        "27 clusters": predicting[27],
        "neighbours of every patch": patches / (QUERIES / neighbors["flat"]),
    }
    whole = sum(each.values())
    rows = [[name, f"{s:.2f}", f"{PICTURES * s / 60:.0f}"] for name, s in (*each.items(), ("together", whole))]
    print(table([f"{PICTURES} pictures of {WIDTH}×{HEIGHT}, one encoder, one condition", "s a picture", "min"], rows))

    if given.shards:
        rows = [
            [f"{count:,}", f"{peak_memory(*given.shards, given.encoder, count):,.0f}"] for count in (20_000, 80_000)
        ]
        print(table(["most vectors drawn", "peak MiB of vice-eval all"], rows))
    print(f"peak of this program: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
