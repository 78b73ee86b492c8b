"""Metrics of a line: by hand, by brute force, and over two processes as over one."""

import math
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from vice.pipeline.loader.batch import Batch
from vice.train.records.meter import Meter, embedding_spread, peak_memory
from vice.train.step import Outcome

CPU = torch.device("cpu")
RATES = {"images_per_second", "views_per_second", "data_wait", "memory_gib"}


def a_batch(num_pictures, num_masked):
    """Three views of 4 x 4 pixels of each picture, with so many masked pixels."""
    masked = torch.arange(3 * num_pictures * 16).view(3, num_pictures, 4, 4) < num_masked
    nothing = torch.zeros(num_pictures, dtype=torch.int64)
    regions = torch.zeros(3, num_pictures, 4, 4, dtype=torch.int32)
    return Batch(torch.zeros(3, num_pictures, 3, 4, 4), regions, nothing, nothing[:, None], masked, None, [])


def an_outcome(loss, concepts, embeddings, usable, num_concepts=4):
    # not one-hot: the likeliest concept is counted
    assigned = 0.9 * F.one_hot(torch.tensor(concepts), num_concepts) + 0.1 / num_concepts
    return Outcome(torch.tensor(loss), assigned, embeddings, torch.tensor(usable))


def two_steps():
    vectors = F.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    first = an_outcome(1.0, [0, 0, 1], vectors[:3], [[True, True], [False, True]])
    second = an_outcome(3.0, [0, 1, 1, 3], vectors[3:], [[True, True], [True, True]])
    return [(first, a_batch(2, 12)), (second, a_batch(2, 36))], vectors


def mean_pair_distance(vectors):
    cosines = vectors @ vectors.T
    pairs = ~torch.eye(len(vectors), dtype=torch.bool)
    return float(1 - cosines[pairs].mean())


def test_a_line_by_hand():
    steps, vectors = two_steps()
    meter = Meter(4, CPU)
    for outcome, batch in steps:
        meter.add(outcome, batch, wait=0.0)
    line = meter.line()
    assert line["loss"] == pytest.approx(2.0) and line["ln_k"] == pytest.approx(math.log(4))
    entropy = -sum(share * math.log(share) for share in (3 / 7, 3 / 7, 1 / 7))
    assert line["concept_entropy"] == pytest.approx(entropy)
    assert line["concepts_used"] == pytest.approx(math.exp(entropy)) and line["dead_concepts"] == 1
    spread = (mean_pair_distance(vectors[:3]) + mean_pair_distance(vectors[3:])) / 2
    assert line["embedding_spread"] == pytest.approx(spread, abs=1e-6)
    assert line["masked_ratio"] == pytest.approx((12 + 36) / (2 * 3 * 2 * 16))
    assert line["regions_per_view"] == line["regions_per_picture"] == pytest.approx(7 / 4)
    assert line["pictures_without_regions"] == 0
    assert line["views_per_second"] == pytest.approx(3 * line["images_per_second"])


def test_a_line_starts_anew_and_a_wait_is_a_share_of_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vice.train.records.meter.time.perf_counter", lambda: now[0])
    meter = Meter(4, CPU)
    steps, _ = two_steps()
    meter.add(*steps[0], wait=1.0)
    now[0] = 4.0
    line = meter.line()
    assert (line["data_wait"], line["images_per_second"], line["views_per_second"]) == (0.25, 0.5, 1.5)
    now[0] = 6.0
    meter.add(*steps[1], wait=0.0)
    line = meter.line()
    assert (line["loss"], line["data_wait"], line["images_per_second"]) == (3.0, 0.0, 1.0)


def test_pictures_without_regions_and_a_step_without_any():
    meter = Meter(4, CPU)
    nothing = Outcome(torch.tensor(0.0), torch.zeros(0, 4), torch.zeros(0, 5), torch.zeros(2, 0, dtype=torch.bool))
    meter.add(nothing, a_batch(2, 0), wait=0.0)
    line = meter.line()
    assert line["pictures_without_regions"] == 1 and line["embedding_spread"] is None
    assert line["concept_entropy"] == 0 and line["dead_concepts"] == 4


def sums_of(*steps):
    return torch.stack([torch.cat([vectors.sum(0), torch.tensor([float(len(vectors))])]) for vectors in steps]).double()


def test_spread_is_0_for_equal_and_1_for_unrelated_regions():
    assert embedding_spread(sums_of(torch.eye(4)[[1, 1, 1]])) == pytest.approx(0)
    assert embedding_spread(sums_of(torch.eye(4))) == pytest.approx(1)
    assert embedding_spread(sums_of(torch.eye(4)[:1], torch.zeros(0, 4))) is None
    assert embedding_spread(sums_of(torch.eye(4)[:1], torch.eye(4)[[0, 0]])) == pytest.approx(0)


def test_peak_memory_is_plausible():
    assert 0.05 < peak_memory(CPU) < 1000


def line_of_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    meter = Meter(4, CPU)
    pictures, places = slice(rank, rank + 1), (slice(0, 2), slice(2, 3))[rank]
    steps, _ = two_steps()
    outcome, batch = steps[0]
    part = Outcome(
        outcome.loss * 2 * rank, outcome.assigned[places], outcome.embeddings[places], outcome.usable[pictures]
    )
    masked = batch.masked[:, pictures]
    meter.add(part, batch._replace(images=batch.images[:, pictures], masked=masked), wait=0.0)
    torch.save(meter.line(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_line_of_one(tmp_path):
    children = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    meter = Meter(4, CPU)
    meter.add(*two_steps()[0][0], wait=0.0)
    line = meter.line()
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == line.keys()
        for name in line.keys() - RATES:
            assert found[name] == pytest.approx(line[name]), name


if __name__ == "__main__":
    line_of_rank(int(sys.argv[1]), sys.argv[2])
