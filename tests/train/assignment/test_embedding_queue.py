"""The queue: first in, first out; used only when full; dealt out again among other numbers of processes."""

import torch

from vice.train.assignment.embedding_queue import EmbeddingQueue


def rows(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


def test_first_in_first_out_and_full_only_with_real_rows():
    queue = EmbeddingQueue(3, 1)
    queue.push(rows(1, 2))
    assert not queue.is_full
    queue.push(rows(3, 4))
    assert queue.is_full and queue.rows.flatten().tolist() == [2, 3, 4]
    queue.push(rows(5, 6, 7, 8))
    assert queue.rows.flatten().tolist() == [6, 7, 8]


def test_no_queue_keeps_nothing_and_is_never_full():
    queue = EmbeddingQueue(0, 1)
    queue.push(rows(1))
    assert len(queue.rows) == 0 and not queue.is_full


def test_rows_carry_no_gradient():
    queue = EmbeddingQueue(2, 1)
    queue.push(rows(1.0, 2.0).requires_grad_())
    assert not queue.rows.requires_grad


def test_every_row_is_dealt_out_once():
    for world_size in (1, 2, 3):
        dealt = []
        for rank in range(world_size):
            queue = EmbeddingQueue(10, 1)
            queue.deal(rows(*range(7)), rank=rank, world_size=world_size)
            dealt += queue.rows.flatten().tolist()
        assert dealt == list(range(7))
