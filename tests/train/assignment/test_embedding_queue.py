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
            queue.deal({"queue": rows(*range(7)), "queue_full": False}, rank=rank, world_size=world_size)
            dealt += queue.rows.flatten().tolist()
        assert dealt == list(range(7))


def dealt(state, *, length, world_size):
    """The queues of so many processes that a checkpoint's rows are dealt out to."""
    queues = [EmbeddingQueue(length, 1) for _ in range(world_size)]
    for rank, queue in enumerate(queues):
        queue.deal(state, rank=rank, world_size=world_size)
    return queues


def test_full_queues_dealt_among_more_processes_stay_in_use_and_grow():
    queues = dealt({"queue": rows(*range(10)), "queue_full": True}, length=5, world_size=4)
    assert all(queue.is_full for queue in queues) and [len(queue.rows) for queue in queues] == [2, 3, 2, 3]
    queues[0].push(rows(10, 11))
    assert queues[0].is_full and len(queues[0].rows) == 4
    queues[0].push(rows(12, 13))
    assert queues[0].is_full and queues[0].rows.flatten().tolist() == [1, 10, 11, 12, 13]


def test_queues_that_were_not_full_are_not_used_after_dealing():
    queues = dealt({"queue": rows(*range(8)), "queue_full": False}, length=5, world_size=4)
    assert not any(queue.is_full for queue in queues)


def test_what_a_queue_gathers_says_whether_it_was_full():
    queue = EmbeddingQueue(2, 1)
    queue.push(rows(1))
    assert queue.gathered_state()["queue_full"] is False
    queue.push(rows(2))
    assert queue.gathered_state()["queue_full"] is True
    (again,) = dealt(queue.gathered_state(), length=2, world_size=1)
    assert again.is_full and torch.equal(again.rows, queue.rows)
