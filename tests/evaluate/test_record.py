import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vice.data_specs.entries import DataRef, Evaluation, RegionBounds
from vice.data_specs.errors import InputError
from vice.data_specs.results import EncoderRef, read_results
from vice.evaluate.metrics import score
from vice.evaluate.record import CURVE_POINTS, add, check_record, curve_of, read_curve
from vice.evaluate.report.page import write_report

NEW = ("compared", "missing", "name", "versions", "threads")
"""Fields that records of earlier evaluations do not have."""


def evaluation(seconds: float = 1.0, seed: int = 0, **settings) -> Evaluation:
    ref = DataRef(dataset="tiny", split="val", num_pictures=2, fingerprint="f" * 64)
    scores = {"trained": {"clean": score(np.array([[3, 1], [0, 2]]), ["a", "b"])}}
    return Evaluation(
        kind="linear", settings={"seed": seed, **settings}, train=ref, val=ref, encoders=scores, seconds=seconds
    )


def encoder(name: str = "first") -> EncoderRef:
    return EncoderRef(
        kind="checkpoint", name=name, sha256=64 * name[0], dim=8, stride=4, step=30, num_steps=40, num_concepts=16
    )


def test_the_curve_of_a_checkpoint_ends_at_its_step(checkpoints):
    curve = curve_of(checkpoints["first"].parent.parent, encoder())
    assert curve.steps == [10, 20, 30]  # not what the run logged after this checkpoint
    assert curve.loss == pytest.approx([2.9, 2.8, 2.7])
    assert curve.ln_num_concepts == math.log(16)
    assert curve_of(None, encoder()) is None


def test_entries_are_added_and_replaced(tmp_path):
    check_record(tmp_path / "new", encoder())
    for name, seconds in (("linear", 1), ("other", 2), ("linear", 3)):
        path = add(tmp_path / "new", encoder=encoder(), evaluations={name: evaluation(seconds)}).path
    there = read_results(tmp_path / "new")
    assert {name: entry.seconds for name, entry in there.evaluations.items()} == {"linear": 3, "other": 2}
    assert path == tmp_path / "new" / "results.json"
    assert there.encoder == encoder()
    for entry in there.evaluations.values():
        assert {"torch", "numpy", "scipy"} <= set(entry.versions) and entry.threads >= 1


def test_other_settings_make_another_entry_and_equal_ones_replace(tmp_path):
    """Of the data, too; how a fit ended is no setting."""
    first = evaluation(1, fits={"loss": 0.1})
    other_data = first.model_copy(update={"train": first.train.model_copy(update={"fingerprint": "a" * 64})})
    for entry, key in (
        (first, "linear"),
        (evaluation(2, seed=1), "settings-2 linear"),
        (other_data, "settings-3 linear"),
        (evaluation(4, fits={"loss": 0.2}), "linear"),
        (evaluation(5, seed=1), "settings-2 linear"),
    ):
        assert add(tmp_path, encoder=encoder(), evaluations={"linear": entry}).keys == {"linear": key}
    there = read_results(tmp_path).evaluations
    assert {key: entry.seconds for key, entry in there.items()} == {
        "linear": 4,
        "settings-2 linear": 5,
        "settings-3 linear": 1,
    }
    assert {entry.name for entry in there.values()} == {"linear"}


def test_a_record_from_before_roles_and_levels_is_read(tmp_path):
    ref = encoder().model_copy(update={"views_seen": 5})
    path = add(tmp_path, encoder=ref, evaluations={"linear": evaluation()}).path
    content = json.loads(path.read_text(encoding="utf-8")) | {"version": 2, "versions": {"torch": "1.2.3"}}
    for part, names in ((content["encoder"], ("levels", "dims")), (content["evaluations"]["linear"], NEW)):
        for name in names:
            del part[name]
    path.write_text(json.dumps(content), encoding="utf-8")
    there = read_results(tmp_path)
    assert there.evaluations == {"linear": evaluation()} and there.encoder == ref
    assert "1.2.3" in write_report([tmp_path], tmp_path / "report.html").read_text(encoding="utf-8")
    assert add(tmp_path, encoder=ref, evaluations={"linear": evaluation(seed=1)}).keys == {
        "linear": "settings-2 linear"
    }
    assert read_results(tmp_path).evaluations["linear"] == evaluation()


def test_several_processes_add_entries_at_once(tmp_path):
    """None of what was added meanwhile is lost."""
    with ThreadPoolExecutor(8) as pool:
        names = [f"entry {number}" for number in range(24)]
        list(pool.map(lambda name: add(tmp_path, encoder=encoder(), evaluations={name: evaluation()}), names))
    assert sorted(read_results(tmp_path).evaluations) == sorted(names)


def test_region_layers_go_before_and_after_an_encoder(tmp_path):
    ref = DataRef(dataset="tiny", split="val", num_pictures=2, fingerprint="f" * 64)
    bounds = RegionBounds(settings={}, data=ref, layers=[], seconds=1)
    check_record(tmp_path, None)
    add(tmp_path, regions={"tiny val": bounds})
    assert read_results(tmp_path).encoder is None
    add(tmp_path, encoder=encoder(), evaluations={"linear": evaluation()})
    check_record(tmp_path, None)
    add(tmp_path, regions={"tiny train": bounds})
    there = read_results(tmp_path)
    assert there.encoder == encoder() and list(there.regions) == ["tiny val", "tiny train"]


def test_another_encoder_s_results_are_refused_and_both_named(tmp_path):
    add(tmp_path, encoder=encoder(), evaluations={"linear": evaluation()})
    for refused in (check_record, lambda run_dir, ref: add(run_dir, encoder=ref)):
        with pytest.raises(InputError, match=r"checkpoint first step 30 .*not of checkpoint second step 30") as caught:
            refused(tmp_path, encoder("second"))
        assert "--run-dir" in caught.value.line()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable as JSON"),
        ('{"format": "other"}', "not results of this program"),
        ('{"format": "vice-results", "version": 1}', "version 1, not 3.*evaluate again"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        check_record(tmp_path, encoder())
    assert "results.json" in caught.value.line()


def test_a_checkpoint_alone_has_no_curve(tmp_path):
    assert read_curve(tmp_path / "metrics.jsonl", num_concepts=4, up_to=10) is None


def test_a_long_curve_is_thinned_to_means(tmp_path):
    lines = [json.dumps({"step": step, "loss": float(step)}) for step in range(1, 10 * CURVE_POINTS + 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    curve = read_curve(tmp_path / "metrics.jsonl", num_concepts=4, up_to=10**6)
    assert len(curve.steps) == CURVE_POINTS
    assert (curve.steps[0], curve.loss[0], curve.steps[-1]) == (10, 5.5, 10 * CURVE_POINTS)


def test_steps_logged_again_after_a_resume_and_lines_without_a_loss(tmp_path):
    lines = ['{"step": 1, "loss": 5}', '{"step": 2, "loss": 9}', '{"step": 2, "loss": 4}', '{"step": 3}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "loss": NaN}']))
    curve = read_curve(tmp_path / "metrics.jsonl", num_concepts=4, up_to=10)
    assert (curve.steps, curve.loss) == ([1, 2], [5.0, 4.0])
