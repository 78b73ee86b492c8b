"""Metrics of a line: by hand, by brute force, and over two processes as over one."""

import math
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from vice.pipeline.loader.batch import Batch
from vice.train.config import TrainConfig
from vice.train.records.meter import Meter, embedding_spread
from vice.train.step import Outcome

CPU = torch.device("cpu")
CONFIG = TrainConfig(name="metered", model={"embedding_dim": 5}, assignment={"num_concepts": 4})
RATES = {"images_per_second", "views_per_second", "data_wait", "memory_gib"}


def a_batch(num_pictures, num_masked):
    """Three views of 4 x 4 pixels of each picture, with so many masked pixels."""
    masked = torch.arange(3 * num_pictures * 16).view(3, num_pictures, 4, 4) < num_masked
    nothing = torch.zeros(num_pictures, dtype=torch.int64)
    regions = torch.zeros(3, num_pictures, 4, 4, dtype=torch.int32)
    return Batch(torch.zeros(3, num_pictures, 3, 4, 4), regions, nothing, nothing[:, None], masked, None, [])


def an_outcome(loss, predicted, embeddings, usable):
    """All are assigned to concept 2, which must not count: assignments are balanced whatever the network does."""
    terms = {"swapped_prediction": torch.tensor(loss), "distillation": torch.tensor(loss / 4)}
    assigned = torch.full((len(predicted),), 2)
    return Outcome(torch.tensor(loss * 1.5), terms, assigned, torch.tensor(predicted), embeddings, torch.tensor(usable))


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
    meter = Meter(CONFIG, CPU)
    for outcome, batch in steps:
        meter.add(outcome, batch, wait=0.0)
    line = meter.line()
    assert (line["loss"], line["loss/swapped_prediction"], line["loss/distillation"]) == (3.0, 2.0, 0.5)
    assert line["ln_k"] == pytest.approx(math.log(4))
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
    meter = Meter(CONFIG, CPU)
    steps, _ = two_steps()
    meter.add(*steps[0], wait=1.0)
    now[0] = 4.0
    line = meter.line()
    assert (line["data_wait"], line["images_per_second"], line["views_per_second"]) == (0.25, 0.5, 1.5)
    now[0] = 6.0
    meter.add(*steps[1], wait=0.0)
    line = meter.line()
    assert (line["loss"], line["data_wait"], line["images_per_second"]) == (4.5, 0.0, 1.0)
    assert line["loss/distillation"] == 0.75


def test_pictures_without_regions_and_a_step_without_any():
    meter = Meter(CONFIG, CPU)
    nothing = an_outcome(0.0, [], torch.zeros(0, 5), [[], []])
    nothing = nothing._replace(predicted=nothing.predicted.long(), usable=nothing.usable.bool())
    meter.add(nothing, a_batch(2, 0), wait=0.0)
    line = meter.line()
    assert line["pictures_without_regions"] == 1 and line["embedding_spread"] is None
    assert line["effective_rank"] is None
    assert line["concept_entropy"] == 0 and line["dead_concepts"] == 4


def sums_of(*steps):
    return torch.stack([torch.cat([vectors.sum(0), torch.tensor([float(len(vectors))])]) for vectors in steps]).double()


def test_spread_is_0_for_equal_and_1_for_unrelated_regions():
    assert embedding_spread(sums_of(torch.eye(4)[[1, 1, 1]])) == pytest.approx(0)
    assert embedding_spread(sums_of(torch.eye(4))) == pytest.approx(1)
    assert embedding_spread(sums_of(torch.eye(4)[:1], torch.zeros(0, 4))) is None
    assert embedding_spread(sums_of(torch.eye(4)[:1], torch.eye(4)[[0, 0]])) == pytest.approx(0)


def rank_of(vectors):
    """Of one step's vectors, taken by the meter's own sums."""
    meter = Meter(TrainConfig(name="rank", model={"embedding_dim": 8}), CPU)
    count = len(vectors)
    meter.add(an_outcome(1.0, [0] * count, vectors, [[True] * count]), a_batch(1, 0), wait=0.0)
    return meter.line()["effective_rank"]


def test_effective_rank_of_a_line_of_all_directions_and_of_a_point():
    vectors = F.normalize(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert 7.9 < rank_of(vectors) <= 8.0
    opposite = vectors[:1] * torch.tensor([1.0, -1.0]).repeat(500)[:, None]
    assert rank_of(opposite) == pytest.approx(1.0, abs=1e-3)  # whose spread is 1, as of unrelated ones
    assert rank_of(vectors[:1].expand(500, -1)) == 0
    assert rank_of(vectors[:1]) is None
    flat = F.normalize(vectors * torch.tensor([1.0] * 3 + [0.0] * 5), dim=1)
    assert 2.9 < rank_of(flat) <= 3.0


def test_effective_rank_is_over_all_steps_of_a_line():
    meter = Meter(CONFIG, CPU)
    for axis in range(5):  # each step's regions are alike, the line's are not
        vectors = torch.eye(5)[[axis, axis, axis]]
        meter.add(an_outcome(1.0, [0, 0, 0], vectors, [[True, True, True]]), a_batch(1, 0), wait=0.0)
    assert meter.line()["effective_rank"] == pytest.approx(4.0, abs=1e-3)  # centred, five points span four dimensions


def test_without_assignments_there_is_no_ln_k():
    terms = {"swapped_prediction": {"weight": 0.0}, "distillation": {"weight": 1.0}}
    fields = {"model": {"embedding_dim": 5, "start": "encoder"}, "assignment": {"num_concepts": 4}}
    meter = Meter(TrainConfig(name="distilled", losses=terms, teacher="vectors", **fields), CPU)
    meter.add(*two_steps()[0][0], wait=0.0)
    assert meter.line()["ln_k"] is None


PEAK = """
import torch
from vice.train.records.meter import peak_memory
cpu = torch.device("cpu")
before = peak_memory(cpu)
torch.ones(1 << 26)  # 256 MiB, touched and given back
print(peak_memory(cpu) - before)
"""


def test_peak_memory_rises_by_what_was_touched_and_stays():
    """In a process of its own: this one's peak may long have been higher."""
    risen = float(subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout)
    assert 0.9 * 0.25 < risen < 1.2 * 0.25


def line_of_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    meter = Meter(CONFIG, CPU)
    pictures, places = slice(rank, rank + 1), (slice(0, 2), slice(2, 3))[rank]
    steps, _ = two_steps()
    outcome, batch = steps[0]
    rows = (getattr(outcome, name)[places] for name in ("concepts", "predicted", "embeddings"))
    terms = {name: value * 2 * rank for name, value in outcome.terms.items()}
    part = Outcome(outcome.loss * 2 * rank, terms, *rows, outcome.usable[pictures])
    masked = batch.masked[:, pictures]
    meter.add(part, batch._replace(images=batch.images[:, pictures], masked=masked), wait=0.0)
    torch.save(meter.line(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_line_of_one(tmp_path):
    children = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    meter = Meter(CONFIG, CPU)
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
