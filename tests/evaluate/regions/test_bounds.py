from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vice.data_specs.regions import IGNORE
from vice.evaluate.metrics import score
from vice.evaluate.regions.bounds import RegionTable, TableBuilder, best_for_miou, confusion_of, majority


def table_of(counts: np.ndarray) -> RegionTable:
    """From dense counts [r, c]."""
    regions, classes = np.nonzero(counts)
    return RegionTable(regions, classes, counts[regions, classes].astype(np.int64), counts.shape[1])


def miou(table: RegionTable, assigned: np.ndarray) -> float:
    return score(confusion_of(table, assigned), [str(number) for number in range(table.num_classes)]).miou


def test_a_table_by_hand():
    builder = TableBuilder(3)
    builder.add(np.array([[5, 5, 9], [5, 9, 9]]), np.array([[0, 1, 1], [0, IGNORE, 1]], np.uint16))
    builder.add(np.array([[0, 1]]), np.array([[2, IGNORE]], np.uint16))
    builder.add(np.array([[0, 1]]), np.array([[IGNORE, IGNORE]], np.uint16))
    table = builder.table()
    assert table.regions.tolist() == [0, 0, 1, 2]
    assert table.classes.tolist() == [0, 1, 1, 2]
    assert table.counts.tolist() == [2, 1, 2, 1]
    assert majority(table).tolist() == [0, 1, 2]
    assert confusion_of(table, majority(table)).tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 1]]


def test_the_majority_of_equals_is_the_first_class():
    assert majority(table_of(np.array([[3, 3, 1], [0, 2, 2]]))).tolist() == [0, 1]


def test_a_thin_class_is_worth_a_region_of_its_own():
    """Nine pixels of the large class are worth less than the only three of the small one."""
    table = table_of(np.array([[900, 0], [9, 3]]))
    assert majority(table).tolist() == [0, 0]
    assert best_for_miou(table).tolist() == [0, 1]
    assert miou(table, best_for_miou(table)) > miou(table, majority(table)) + 0.1


counts = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(counts)
def test_the_best_is_never_below_the_majority_nor_above_the_true_optimum(rows):
    found = np.array(rows)
    found = found[found.any(axis=1)]
    if not len(found):
        return
    table = table_of(found)
    value = miou(table, best_for_miou(table))
    optimum = max(miou(table, np.array(choice)) for choice in product(range(3), repeat=len(found)))
    assert miou(table, majority(table)) - 1e-12 <= value <= optimum + 1e-12


def test_how_near_the_best_comes_to_the_true_optimum():
    """A local optimum: mostly the true one, and where it is not, near."""
    draws = np.random.Generator(np.random.Philox(key=6))
    short = []
    for _ in range(120):
        table = table_of(draws.integers(0, 12, (6, 3)) * (draws.random((6, 3)) < 0.7) + np.eye(6, 3, dtype=int))
        optimum = max(miou(table, np.array(choice)) for choice in product(range(3), repeat=6))
        short.append(optimum - miou(table, best_for_miou(table)))
    assert np.mean(np.array(short) < 1e-9) > 0.7
    assert np.mean(short) < 0.02


def test_no_single_move_raises_the_best_of_many_regions():
    draws = np.random.Generator(np.random.Philox(key=7))
    table = table_of(draws.integers(0, 30, (300, 5)) * (draws.random((300, 5)) < 0.4) + np.eye(300, 5, dtype=int))
    assigned = best_for_miou(table)
    value = miou(table, assigned)
    assert value > miou(table, majority(table))
    for region, label in zip(table.regions.tolist(), table.classes.tolist(), strict=True):
        moved = assigned.copy()
        moved[region] = label
        assert miou(table, moved) <= value + 1e-12
