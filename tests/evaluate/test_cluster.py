import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.evaluate.cluster import Found, confusions, evaluate_cluster
from vice.evaluate.encoders import ColourPositionEncoder
from vice.evaluate.names import CHANGED_LIGHT, CLEAN, COLOUR_POSITION
from vice.evaluate.options import ClusterOptions, Drawing, KMeansSettings

OPTIONS = ClusterOptions((12, 20), Drawing(pixels_per_picture=300), KMeansSettings(iterations=10, restarts=2))


@pytest.fixture(scope="module")
def entries(train, val, tmp_path_factory):
    return evaluate_cluster(
        [ColourPositionEncoder()], train, val, options=OPTIONS, run_dir=tmp_path_factory.mktemp("run")
    )


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


def test_repeating_gives_equal_numbers(entries, train, val, tmp_path):
    again = evaluate_cluster([ColourPositionEncoder()], train, val, options=OPTIONS, run_dir=tmp_path)
    for name, entry in entries.items():
        assert again[name].model_copy(update={"seconds": 0}) == entry.model_copy(update={"seconds": 0})


def test_val_fitting_looks_at_clean_pictures_only():
    found = Found(None, np.array([[9, 0], [0, 9]]))
    counts = {CLEAN: np.array([[5, 0], [0, 5]]), CHANGED_LIGHT: np.array([[0, 5], [5, 0]])}
    by_condition = confusions(found, counts, rule="greedy", split="val")
    np.testing.assert_array_equal(by_condition[CLEAN], [[5, 0], [0, 5]])
    np.testing.assert_array_equal(by_condition[CHANGED_LIGHT], [[0, 5], [5, 0]])


def test_train_fitting_looks_at_train_counts_only():
    found = Found(None, np.array([[0, 9], [9, 0]]))
    counts = {CLEAN: np.array([[5, 0], [0, 5]])}
    np.testing.assert_array_equal(confusions(found, counts, rule="greedy", split="train")[CLEAN], [[0, 5], [5, 0]])


def test_more_clusters_than_vectors_are_refused(train, val, tmp_path):
    options = ClusterOptions((5000,), Drawing(pixels_per_picture=300))
    with pytest.raises(InputError, match="5000 clusters asked of 2100 vectors"):
        evaluate_cluster([ColourPositionEncoder()], train, val, options=options, run_dir=tmp_path)
