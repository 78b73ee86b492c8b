import json
import math

import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.data_specs.results import DataRef, Evaluation, read_results
from vice.evaluate.metrics import score
from vice.evaluate.record import CURVE_POINTS, add, open_record, read_curve
from vice.train.records.checkpoint import read_checkpoint


def evaluation(seconds: float = 1.0) -> Evaluation:
    ref = DataRef(dataset="tiny", split="val", num_pictures=2, fingerprint="f" * 64)
    scores = {"trained": {"clean": score(np.array([[3, 1], [0, 2]]), ["a", "b"])}}
    return Evaluation(kind="linear", settings={"seed": 0}, train=ref, val=ref, encoders=scores, seconds=seconds)


def opened(run_dir, checkpoint):
    return open_record(run_dir, checkpoint, read_checkpoint(checkpoint))


def test_a_new_record_tells_the_checkpoint_and_its_run(checkpoints, tmp_path, train):
    results = opened(tmp_path / "new", checkpoints["first"])
    assert (results.checkpoint.name, results.checkpoint.step, results.checkpoint.num_steps) == ("tiny-first", 30, 40)
    assert (results.checkpoint.views_seen, results.checkpoint.num_concepts) == (1234, 16)
    assert results.checkpoint.shards_fingerprint == train.fingerprint
    assert results.training.steps == [10, 20, 30]  # not what the run logged after this checkpoint
    assert results.training.loss == pytest.approx([2.9, 2.8, 2.7])
    assert results.training.ln_num_concepts == math.log(16)
    assert {"torch", "numpy", "scipy"} <= set(results.versions)
    assert not (tmp_path / "new").exists()


def test_entries_are_added_and_replaced(checkpoints, tmp_path):
    results, path = add(tmp_path, opened(tmp_path, checkpoints["first"]), {"linear": evaluation(1)})
    add(tmp_path, opened(tmp_path, checkpoints["first"]), {"other": evaluation(2)})
    add(tmp_path, opened(tmp_path, checkpoints["first"]), {"linear": evaluation(3)})
    there = read_results(tmp_path)
    assert {name: entry.seconds for name, entry in there.evaluations.items()} == {"linear": 3, "other": 2}
    assert path == tmp_path / "results.json"
    assert results.evaluations["linear"].encoders == there.evaluations["linear"].encoders


def test_another_checkpoint_s_results_are_refused_and_both_named(checkpoints, tmp_path):
    add(tmp_path, opened(tmp_path, checkpoints["first"]), {"linear": evaluation()})
    with pytest.raises(InputError, match=r"tiny-first step 30 .*not of tiny-second step 30") as caught:
        opened(tmp_path, checkpoints["second"])
    assert "--run-dir" in caught.value.line()
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("content", ["{", '{"format": "other"}', '{"format": "vice-results", "version": 99}'])
def test_a_file_that_is_no_record_is_refused(checkpoints, tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(InputError, match=r"results\.json"):
        opened(tmp_path, checkpoints["first"])


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
