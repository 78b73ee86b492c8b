"""A failed allocation is one line with the settings to change; other errors stay what they are."""

import pytest
import torch

from vice.data_specs.errors import WorkError
from vice.train.config import TrainConfig
from vice.train.memory import explained_out_of_memory


def test_gpu_memory():
    config = TrainConfig(name="large", global_batch=64, views={"size": 512})
    told = r"not enough GPU memory.*; in a new run raise micro_batches \(1\), .*activation_checkpointing=true, .*bf16, "
    told += r"lower views.size \(512\) or global_batch \(64\)"
    with pytest.raises(WorkError, match=told), explained_out_of_memory(config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def test_memory_of_the_cpu_by_a_real_allocation():
    config = TrainConfig(name="large", precision="bf16")
    with (
        pytest.raises(WorkError, match=r"^not enough memory; in a new run raise") as caught,
        explained_out_of_memory(config),
    ):
        torch.empty(1 << 58, dtype=torch.uint8)
    assert "precision" not in caught.value.line()


def test_other_errors_stay():
    with pytest.raises(RuntimeError, match="shape"), explained_out_of_memory(TrainConfig(name="small")):
        torch.ones(2).reshape(3)
