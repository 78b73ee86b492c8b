"""Batch norms that are converted or frozen leave what the network computes as it was, activations included."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops import FrozenBatchNorm2d

from vice.train.config import ModelConfig
from vice.train.network.batch_norm import freeze_batch_norms, synchronise_batch_norms
from vice.train.network.model import DenseModel

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
WITH_ACTIVATION = ["regnetx_002", "tf_efficientnet_lite0", "mobilenetv3_small_100"]
"""Encoders whose batch norms are timm's, with the activation inside."""
FAMILIES = ["resnet18", *WITH_ACTIVATION, "convnext_atto", "torchvision/resnet50"]


def model_of(encoder) -> DenseModel:
    """A model with running statistics and counts that are not the initial ones, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = DenseModel(ModelConfig(encoder=encoder, decoder_channels=64, embedding_dim=8, centre=True))
        with torch.no_grad():
            for _ in range(2):
                model.train()(torch.randn(2, 3, 64, 64))
    return model.eval()


def norms(model) -> list[_BatchNorm]:
    return [part for part in model.modules() if isinstance(part, _BatchNorm)]


@torch.no_grad()
def differs(convert, encoder) -> bool:
    model = model_of(encoder)
    before, state = model.raw(IMAGES), {key: value.clone() for key, value in model.state_dict().items()}
    converted = convert(model)
    assert norms(converted) and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms(converted))
    after = converted.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[key], state[key]) for key in state)
    return not torch.allclose(converted.raw(IMAGES), before, atol=1e-5)


@pytest.mark.parametrize("encoder", FAMILIES)
def test_statistics_over_processes_leave_the_network_as_it_was(encoder):
    assert not differs(synchronise_batch_norms, encoder)


@pytest.mark.parametrize("encoder", WITH_ACTIVATION)
def test_torchs_own_conversion_does_not(encoder):
    assert differs(nn.SyncBatchNorm.convert_sync_batchnorm, encoder)


def test_norms_without_statistics_to_share_stay():
    frozen = nn.BatchNorm2d(4)
    freeze_batch_norms(frozen)
    plain, fixed = nn.BatchNorm2d(4, affine=False), FrozenBatchNorm2d(4)
    converted = synchronise_batch_norms(nn.Sequential(frozen, fixed, plain, nn.BatchNorm1d(4)))
    assert converted[0] is frozen and converted[1] is fixed
    assert [type(part) for part in converted[2:]] == [nn.SyncBatchNorm, nn.SyncBatchNorm]
    assert converted[2].weight is None and converted[2].running_var is plain.running_var
    assert isinstance(synchronise_batch_norms(nn.BatchNorm2d(4)), nn.SyncBatchNorm)


@pytest.mark.parametrize("encoder", ["resnet18", *WITH_ACTIVATION, "torchvision/resnet50"])
def test_frozen_statistics_are_used_in_training_and_never_change(encoder):
    model = model_of(encoder)
    with torch.no_grad():
        before = [maps.clone() for maps in model.encoder(IMAGES)]
    keys, buffers = list(model.state_dict()), [value.clone() for value in model.encoder.buffers()]
    freeze_batch_norms(model.encoder)
    model.train()
    assert model.encoder.training and model.centre.training
    assert not any(norm.training for norm in norms(model.encoder))
    maps = model.encoder(IMAGES)
    for one, other in zip(maps, before, strict=True):
        torch.testing.assert_close(one, other)
    maps[-1].sum().backward()
    assert all(norm.weight.grad is not None for norm in norms(model.encoder))
    assert all(torch.equal(one, other) for one, other in zip(model.encoder.buffers(), buffers, strict=True))
    assert list(model.state_dict()) == keys


def test_frozen_statistics_survive_copies_conversion_and_state_dicts():
    model = model_of("regnetx_002")
    freeze_batch_norms(model.encoder)
    freeze_batch_norms(model.encoder)  # once more changes nothing
    for other in (copy.deepcopy(model).train(), synchronise_batch_norms(copy.deepcopy(model)).train()):
        assert not any(norm.training for norm in norms(other.encoder)) and len(norms(other.encoder)) > 20
        assert all(norm.training for norm in norms(other.decoder))
        other.load_state_dict(model_of("regnetx_002").state_dict())
        with torch.no_grad():
            for one, expected in zip(other.encoder(IMAGES), model.encoder(IMAGES), strict=True):
                torch.testing.assert_close(one, expected)


def test_frozen_statistics_under_gradients_over_processes(tmp_path):
    model = model_of("regnetx_002")
    freeze_batch_norms(model.encoder)
    buffers = [value.clone() for value in model.encoder.buffers()]
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        network = DistributedDataParallel(model).train()
        network(IMAGES).square().cumsum(1).sum().backward()
    finally:
        dist.destroy_process_group()
    assert all(torch.equal(one, other) for one, other in zip(model.encoder.buffers(), buffers, strict=True))
    assert all(weight.grad is not None for weight in model.parameters())
    assert model.centre.num_batches_tracked == 3


def test_frozen_statistics_and_activations_computed_again():
    fields = {"encoder": "regnetx_002", "decoder_channels": 64, "embedding_dim": 8}
    model = DenseModel(ModelConfig(**fields, activation_checkpointing=True))
    freeze_batch_norms(model.encoder)
    buffers = [value.clone() for value in model.encoder.buffers()]
    model.train()(IMAGES).sum().backward()
    assert all(torch.equal(one, other) for one, other in zip(model.encoder.buffers(), buffers, strict=True))
