import numpy as np
import pytest
from records import CLASSES, REF, evaluation

from vice.data_specs.entries import ComparedEncoder, Evaluation
from vice.evaluate.comparison import MEANINGS, differences, evaluated, missing_baselines, signed, verdict
from vice.evaluate.metrics import score


def entry(shares: dict[str, tuple[int, ...]], conditions: tuple[str, ...] = ("clean", "changed light")) -> Evaluation:
    """An evaluation of two classes where so many of 100 pixels of each are right."""
    confusions = {
        (name, condition): [[right, 100 - right], [100 - right, right]]
        for name, by_condition in shares.items()
        for condition, right in zip(conditions, by_condition, strict=True)
    }
    encoders: dict = {}
    for (name, condition), confusion in confusions.items():
        encoders.setdefault(name, {})[condition] = score(np.array(confusion), CLASSES[:2])
    return Evaluation(kind="linear", settings={}, train=REF, val=REF, encoders=encoders, seconds=1)


def test_every_baseline_is_said_to_be_beaten_or_not():
    found = entry(
        {
            "trained": (60, 55),
            "frozen encoder": (70, 65),
            "frozen encoder, 8 values": (50, 60),
            "step 0": (60, 50),
            "colour": (20, 30),
        }
    )
    told = verdict(found)
    clean = {name: by["clean"].miou for name, by in found.encoders.items()}
    assert told.startswith(f"Better than colour ({signed(clean['trained'] - clean['colour'])} clean, +")
    assert "Better than frozen encoder, 8 values (+9.5 clean, −4.9 changed light) only on clean pictures." in told
    assert "Better than step 0 (0.0 clean, +4.6 changed light) only on changed light pictures." in told.replace(
        "+0.0", "0.0"
    )
    assert told.endswith("Not better than frozen encoder (−11.0 clean, −10.2 changed light).")


def test_a_tie_is_not_better():
    assert verdict(entry({"trained": (60, 55), "step 0": (60, 55)})).startswith("Not better than step 0 (")


def test_several_changes_are_told_by_their_mean():
    found = entry({"trained": (60, 55, 75), "colour": (60, 65, 55)}, ("clean", "noise", "blur"))
    (difference,) = differences(found)
    assert list(difference.by_condition) == ["clean", "changed (mean)"]
    by = found.encoders
    expected = np.mean([by["trained"][name].miou - by["colour"][name].miou for name in ("noise", "blur")])
    assert difference.by_condition["changed (mean)"] == pytest.approx(expected)


def test_the_encoder_that_results_belong_to_is_a_field_and_older_records_have_names():
    about = {name: ComparedEncoder(role=role, dim=3) for name, role in (("a", "colour"), ("b", "evaluated"))}
    found = entry({"a": (1, 1), "b": (2, 2)})
    assert evaluated(found.model_copy(update={"compared": about})) == "b"
    assert evaluated(found) == "a"
    assert evaluated(evaluation("linear", {})) == "trained"
    assert evaluated(entry({"colour": (1, 1), "encoder": (1, 1)})) == "encoder"


def test_every_role_has_a_meaning():
    roles = ComparedEncoder.model_json_schema()["properties"]["role"]["enum"]
    assert set(roles) == set(MEANINGS)


def test_missing_baselines_are_told_in_one_line_with_the_reason():
    told = missing_baselines({"frozen encoder": "no file", "step 0": "no file", "other": "too few values"})
    assert told == "not evaluated: frozen encoder; step 0 (no file); other (too few values)"
