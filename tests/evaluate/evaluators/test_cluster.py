import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.evaluate.encoders.raw import ColourPositionEncoder
from vice.evaluate.evaluators.cluster import ClusterEvaluator, confusions
from vice.evaluate.evaluators.protocol import Setup
from vice.evaluate.evaluators.running import run_evaluators
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR_POSITION
from vice.evaluate.options import Drawing, KMeansSettings

DRAWING, KMEANS = Drawing(pixels_per_picture=300), KMeansSettings(iterations=10, restarts=2)


def evaluated(setup: Setup, seeds=(0,)):
    evaluator = ClusterEvaluator(setup, num_clusters=(12, 20), drawing=DRAWING, kmeans=KMEANS, seeds=seeds)
    return run_evaluators([evaluator], [ColourPositionEncoder()], setup)


@pytest.fixture(scope="module")
def setup(train, val, tmp_path_factory) -> Setup:
    return Setup(train, val, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def entries(setup):
    return evaluated(setup)


def test_an_entry_per_k_rule_and_split(entries):
    mappings = ["greedy train-fitted", "greedy val-fitted", "hungarian train-fitted", "hungarian val-fitted"]
    assert list(entries) == [f"cluster-{k} {mapping}" for k in (12, 20) for mapping in mappings]


def test_greedy_fitted_on_val_is_the_most_accurate_mapping_of_clean_val(entries):
    accuracy = {name: entry.encoders[COLOUR_POSITION][CLEAN].accuracy for name, entry in entries.items()}
    for k in (12, 20):
        best = accuracy[f"cluster-{k} greedy val-fitted"]
        assert best == max(value for name, value in accuracy.items() if name.startswith(f"cluster-{k} "))
    assert accuracy["cluster-12 greedy train-fitted"] > 0.5  # colour clusters, colour classes


def test_all_mappings_count_the_same_labelled_pixels(entries):
    scores = [score for entry in entries.values() for score in entry.encoders[COLOUR_POSITION].values()]
    assert len(scores) == 16
    assert len({tuple(np.sum(score.confusion, axis=1)) for score in scores}) == 1


def test_the_record_holds_what_made_the_numbers(entries):
    settings = entries["cluster-20 hungarian val-fitted"].settings
    assert settings["kmeans"]["num_clusters"] == 20
    assert settings["kmeans"]["restarts"] == 2
    assert "faiss" in settings["kmeans"]["library"]
    assert settings["matching"]["rule"] == "hungarian"
    assert "clean val pictures" in settings["matching"]["fitted_on"]
    assert settings["vectors"]["num_vectors"] == 7 * 300


def test_repeating_gives_equal_numbers(entries, setup, tmp_path):
    again = evaluated(setup._replace(run_dir=tmp_path))
    for name, entry in entries.items():
        assert again[name].model_copy(update={"seconds": 0}) == entry.model_copy(update={"seconds": 0})
        assert again[name].identity == entry.identity


def test_several_seeds_give_their_mean_and_spread(entries, setup):
    name = "cluster-12 hungarian train-fitted"
    repeated = evaluated(setup, (0, 5))
    assert repeated[name].identity != entries[name].identity
    of_two, alone = (some[name].encoders[COLOUR_POSITION][CLEAN] for some in (repeated, entries))
    assert [repeat.seed for repeat in of_two.repeats] == [0, 5]
    assert of_two.repeats[0].miou == alone.miou != of_two.repeats[1].miou
    assert of_two.accuracy == pytest.approx(np.mean([repeat.accuracy for repeat in of_two.repeats]))


def test_val_fitting_looks_at_clean_pictures_only():
    counts = {CLEAN: np.array([[5, 0], [0, 5]]), CHANGED_LIGHT: np.array([[0, 5], [5, 0]])}
    by_condition = confusions(np.array([[9, 0], [0, 9]]), counts, rule="greedy", split="val")
    np.testing.assert_array_equal(by_condition[CLEAN], [[5, 0], [0, 5]])
    np.testing.assert_array_equal(by_condition[CHANGED_LIGHT], [[0, 5], [5, 0]])


def test_train_fitting_looks_at_train_counts_only():
    counts = {CLEAN: np.array([[5, 0], [0, 5]])}
    train_counts = np.array([[0, 9], [9, 0]])
    found = confusions(train_counts, counts, rule="greedy", split="train")[CLEAN]
    np.testing.assert_array_equal(found, [[0, 5], [5, 0]])


def test_more_clusters_than_vectors_are_refused(setup):
    with pytest.raises(InputError, match="5000 clusters asked of 2100 vectors"):
        ClusterEvaluator(setup, num_clusters=(5000,), drawing=DRAWING, kmeans=KMEANS)
