import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vice.data_specs.regions import IGNORE
from vice.evaluate.atlas.region_embeddings import class_counts, pool


def noise(*shape: int, key: int = 3) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


@pytest.mark.parametrize(("height", "width", "stride"), [(32, 48, 4), (31, 45, 4), (40, 33, 16)])
def test_a_region_s_embedding_is_the_mean_of_the_upsampled_map(height, width, stride):
    draws = np.random.Generator(np.random.Philox(key=1))
    regions = np.unique(draws.integers(0, 9, (height, width)), return_inverse=True)[1].reshape(height, width)
    embedding = noise(5, -(-height // stride), -(-width // stride))
    whole = F.interpolate(torch.from_numpy(embedding)[None], scale_factor=stride, mode="bilinear", align_corners=False)
    whole = whole[0, :, :height, :width].numpy()
    found = pool(embedding, regions.astype(np.uint16), stride=stride)
    for region in range(regions.max() + 1):
        mean = whole[:, regions == region].mean(axis=1)
        np.testing.assert_allclose(found[region], mean / np.linalg.norm(mean), atol=1e-5)


def test_classes_of_regions_by_hand():
    regions = np.array([[0, 0, 1], [0, 1, 1]])
    labels = np.array([[2, 2, 0], [IGNORE, 0, 1]], np.uint16)
    assert class_counts(regions, labels, 2, 3).tolist() == [[0, 0, 2], [2, 1, 0]]
