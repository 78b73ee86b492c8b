import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.data_specs.regions import IGNORE
from vice.evaluate.encoders.raw import ColourEncoder, ColourPositionEncoder
from vice.evaluate.evaluators.neighbors import NeighborEvaluator, NeighborHead
from vice.evaluate.evaluators.patches import Memory, PatchCollector, patch_shares
from vice.evaluate.evaluators.protocol import Setup
from vice.evaluate.evaluators.running import run_evaluators
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR
from vice.evaluate.options import NeighborSettings, Quota
from vice.evaluate.passes import collect
from vice.evaluate.scenes import Scene, scenes

SETTINGS = NeighborSettings(num_neighbors=5, memory_size=400, patch=8)


def noise(*shape: int, key: int = 3) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


def voted_by_hand(memory: Memory, settings: NeighborSettings, query: np.ndarray) -> np.ndarray:
    mean = memory.vectors.mean(axis=0)
    unit = [(v - mean) / np.linalg.norm(v - mean) for v in (*memory.vectors, query)]
    cosines = np.array([float(unit[-1] @ one) for one in unit[:-1]])
    nearest = np.argsort(-cosines)[: settings.num_neighbors]
    weights = np.exp(cosines[nearest] / settings.temperature)
    return (weights[:, None] * memory.shares[nearest]).sum(axis=0) / weights.sum()


def test_votes_are_those_of_brute_force():
    memory = Memory(noise(200, 12), np.abs(noise(200, 4, key=4)))
    head, embedding = NeighborHead(memory, SETTINGS, cells_a_side=2), noise(12, 3, 2, key=5)
    votes = head.scores(embedding)
    assert votes.shape == (head.num_predictions, 3, 2) == (4, 3, 2)
    for row, column in np.ndindex(3, 2):
        expected = voted_by_hand(memory, SETTINGS, embedding[:, row, column])
        np.testing.assert_allclose(votes[:, row, column], expected, rtol=1e-4)


def test_inverted_lists_find_most_of_what_exact_search_finds():
    centres = noise(20, 16) * 4
    groups = np.repeat(np.arange(20), 100)
    memory = Memory(centres[groups] + noise(2000, 16, key=6), np.eye(20, dtype=np.float32)[groups])
    queries = (centres[groups[::10]] + noise(200, 16, key=7)).T.reshape(16, 20, 10)
    exact, lists = (
        NeighborHead(memory, SETTINGS._replace(index=i), cells_a_side=1).scores(queries) for i in ("flat", "ivf")
    )
    assert (exact.argmax(axis=0).reshape(-1) == groups[::10]).all()
    assert (lists.argmax(axis=0) == exact.argmax(axis=0)).mean() > 0.95


def test_shares_of_a_hand_labelled_picture():
    labels = np.array([[0, 0, 1, IGNORE], [0, 2, IGNORE, IGNORE]], np.uint16)
    scene = Scene(0, "key", np.zeros((2, 4, 3), np.uint8), labels)
    shares = patch_shares(scene, (1, 2), side=2, num_classes=3)
    np.testing.assert_allclose(shares, [[0.75, 0, 0.25], [0, 1, 0]])
    # labels of twice the size of the picture give the same shares
    large = scene._replace(labels=labels.repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_allclose(patch_shares(large, (1, 2), side=2, num_classes=3), shares)


def test_the_memory_is_bounded_and_has_only_labelled_patches(train):
    collector = PatchCollector(quota=Quota.within(42, 7, each=42), patch=8, seed=0, num_classes=4)
    collect(scenes([train], "test"), [ColourEncoder(), ColourPositionEncoder()], [collector])
    memories = collector.memories()
    assert {name: memory.vectors.shape for name, memory in memories.items()} == {
        "colour": (42, 3),
        "colour + position": (42, 5),
    }
    for memory in memories.values():
        np.testing.assert_allclose(memory.shares.sum(axis=1), 1, atol=1e-6)
    # both encoders keep the same patches
    np.testing.assert_array_equal(memories["colour"].vectors, memories["colour + position"].vectors[:, :3])


def test_a_memory_smaller_than_the_number_of_pictures_is_kept(train):
    collector = PatchCollector(quota=Quota.within(3, len(train), each=3), patch=8, seed=0, num_classes=4)
    collect(scenes([train], "test"), [ColourEncoder()], [collector])
    assert len(collector.memories()[COLOUR].vectors) == 3


def evaluated(setup: Setup, seeds=(0,)):
    return run_evaluators([NeighborEvaluator(setup, settings=SETTINGS, seeds=seeds)], [ColourEncoder()], setup)


def test_classes_that_are_colours_are_told_by_colour_and_repeating_gives_equal_numbers(train, val, tmp_path):
    setup = Setup(train, val, tmp_path)
    entry = evaluated(setup)["neighbors"]
    scores = entry.encoders[COLOUR]
    assert scores[CLEAN].accuracy > 0.7
    assert scores[CHANGED_LIGHT].accuracy < scores[CLEAN].accuracy
    assert entry.settings["memory"]["num_patches"] == {COLOUR: 7 * (400 // 7)}
    assert evaluated(setup)["neighbors"].encoders == entry.encoders
    of_two = evaluated(setup, (0, 1))["neighbors"].encoders[COLOUR][CLEAN]
    assert of_two.repeats[0].miou == scores[CLEAN].miou != of_two.repeats[1].miou


def test_train_pictures_without_a_labelled_pixel_are_refused(train, val, tmp_path):
    blank = [scene._replace(labels=np.full_like(scene.labels, IGNORE)) for scene in scenes([train], "test")]
    evaluator = NeighborEvaluator(Setup(train, val, tmp_path), settings=SETTINGS)
    collect(blank, [ColourEncoder()], evaluator.collectors)
    with pytest.raises(InputError, match="no pixel of the train pictures is labelled"):
        evaluator.fit()
