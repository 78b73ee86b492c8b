"""Two processes against one on given embedding maps with unequal regions: value, gradient, assignment, queue."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from vice.data_specs.regions import IGNORE
from vice.train.assignment.embedding_queue import EmbeddingQueue
from vice.train.assignment.method import MethodContext, Views
from vice.train.assignment.methods.swav import SwavAssignment, SwavSettings
from vice.train.config import TrainConfig
from vice.train.distributed import Process, sum_over_processes
from vice.train.losses.cross_entropy import one_sided, symmetric
from vice.train.network.pooling import pool_regions, region_weights

PICTURES, REGIONS, CONCEPTS, DIM = 4, 9, 5, 8


def problem():
    """Embedding maps [m, n, d, 4, 4], concepts, and regions [m, n, 12, 12]."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(3, PICTURES, DIM, 4, 4, generator=generator)
    concepts = F.normalize(torch.randn(CONCEPTS, DIM, generator=generator), dim=-1)
    # as uneven as can be: picture 1 has one region, picture 3 (both of process 1 with two processes) none
    num_regions = torch.tensor([9, 1, 6, 0])
    regions = torch.randint(0, REGIONS, (3, PICTURES, 12, 12), generator=generator, dtype=torch.int32)
    return maps, concepts, torch.where(regions < num_regions[:, None, None], regions, IGNORE), num_regions


def two_steps(pictures, length, sides, rank=0, world_size=1):
    """Loss, gradients of concepts and maps, and assignments of a process with some of the pictures; and its queue."""
    maps, concepts, regions, num_regions = problem()
    maps, regions, num_regions = maps[:, pictures].requires_grad_(), regions[:, pictures], num_regions[pictures]
    usable = torch.arange(REGIONS) < num_regions[:, None]
    picture, region = usable.nonzero(as_tuple=True)
    concepts = nn.Parameter(concepts)
    process = Process(rank, world_size, torch.device("cpu"))
    context = MethodContext(TrainConfig(name="two"), concepts, process, steps_per_epoch=2, regions_of=None)
    assignment = SwavAssignment(SwavSettings(queue_length=length), context)
    for _ in range(2):
        concepts.grad = maps.grad = None
        pooled = pool_regions(F.normalize(maps, dim=2), region_weights(regions, REGIONS, (4, 4)), REGIONS)
        embeddings = F.normalize(pooled, dim=-1)[:, usable]
        scores = embeddings @ concepts.T
        seen = slice(0, 1 if sides == "one" else None)
        views = Views(embeddings[seen].detach(), scores[seen].detach(), concepts.detach(), picture, region)
        assigned = assignment.assign(views)
        num_pictures = sum_over_processes(usable.any(1).sum().float())
        share = 1 / (usable.sum(1)[picture] * num_pictures)
        if sides == "one":
            loss = one_sided(scores[1:] / 0.1, assigned[0], share)
        else:
            loss = symmetric(scores / 0.1, assigned, share)
        loss.backward()
        assignment.end_step()
    return loss.detach(), concepts.grad, maps.grad, assigned, assignment.queue


def process(rank, folder, sides):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    # 16 regions a step; process 0 has 15 of them, process 1 one, and its queue holds one
    loss, gradient, of_maps, assigned, queue = two_steps([rank, rank + 2], 15 if rank == 0 else 1, sides, rank, 2)
    dist.all_reduce(loss)
    dist.all_reduce(gradient)
    gathered = queue.gathered_state()
    dealt = EmbeddingQueue(8, DIM)
    dealt.deal(gathered, rank=rank, world_size=2)
    torch.save([loss, gradient, assigned, gathered, dealt.rows, of_maps], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("sides", ["one", "symmetric"])
def test_two_processes_equal_one(sides, tmp_path):
    loss, gradient, of_maps, assigned, queue = two_steps([0, 1, 2, 3], 16, sides)
    children = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path), sides]) for rank in range(2)]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert loss > 0 and gradient.norm() > 0 and len(assigned) == (1 if sides == "one" else 3)
    for result in (first, second):
        torch.testing.assert_close(result[0], loss)
        torch.testing.assert_close(result[1], gradient)
    torch.testing.assert_close(torch.stack([first[5], second[5]], 2).flatten(1, 2), of_maps)
    # process 0 has pictures 0 and 2 (15 regions), process 1 picture 1's single region
    torch.testing.assert_close(torch.cat([first[2][:, :9], second[2], first[2][:, 9:]], 1), assigned)
    in_rank_order = torch.cat([queue.rows[:9], queue.rows[10:], queue.rows[9:10]])
    torch.testing.assert_close(first[3]["queue"], in_rank_order)
    assert first[3]["queue_full"] and second[3]["queue_full"]
    assert torch.equal(torch.cat([first[4], second[4]]), first[3]["queue"])


if __name__ == "__main__":
    process(int(sys.argv[1]), sys.argv[2], sys.argv[3])
