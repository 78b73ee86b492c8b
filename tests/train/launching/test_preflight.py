"""What is refused before any process starts, each in one line; and what may change when a run is resumed."""

import pytest
import torch
from region_vectors import make_vectors
from tiny_run import tiny

from vice.data_specs.errors import InputError
from vice.pipeline.shards import Shards
from vice.train.launching.preflight import check
from vice.train.records.run_dir import open_run

MODEL = {"encoder": "regnetx_002", "decoder_channels": 64, "embedding_dim": 4, "start": "encoder"}


@pytest.fixture(scope="module")
def teacher(scene_shards, tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "out"
    make_vectors(Shards(scene_shards["train"]), "slic:12", out)
    return str(out)


@pytest.fixture
def checked(scene_shards, tmp_path):
    """Check a tiny configuration with some changes."""

    def run(split="train", num_processes=1, **changes):
        check(tiny(**changes), str(scene_shards[split]), tmp_path / "run", num_processes=num_processes)

    return run


@pytest.fixture
def refused(checked):
    """The one line with which a configuration is refused."""

    def run(**changes):
        with pytest.raises(InputError) as caught:
            checked(**changes)
        assert "\n" not in caught.value.line()
        return caught.value.line()

    return run


def assignment(**changes):
    return {"num_concepts": 8, "swav": {"queue_length": 40}, "freeze_concepts_steps": 1, **changes}


def test_the_tiny_run_is_accepted(checked):
    checked()


def test_concepts_frozen_for_all_steps_are_refused(checked, refused):
    """Ten pictures 1.2 times in steps of two: 6 steps."""
    frozen = "concepts are frozen for 6 steps, and the run has 6: assignment.freeze_concepts_steps; lower it, or raise"
    assert frozen in refused(assignment=assignment(freeze_concepts_steps=6))
    checked(assignment=assignment(freeze_concepts_steps=5))
    # k-means sets its own concepts, and without swapped prediction nothing needs them
    checked(assignment=assignment(freeze_concepts_steps=9, method="kmeans"))


def test_frozen_concepts_that_nothing_needs_are_accepted(checked, teacher):
    losses = {"distillation": {"weight": 1.0}, "swapped_prediction": {"weight": 0.0}}
    checked(assignment=assignment(freeze_concepts_steps=9), losses=losses, teacher=teacher, model=MODEL)


def test_a_teacher_of_other_shards_or_of_another_layer_is_refused(checked, refused, teacher):
    losses = {"distillation": {"weight": 1.0}}
    checked(teacher=teacher, losses=losses, model=MODEL)
    said = refused(split="val", teacher=teacher, losses=losses, model=MODEL)
    assert "region vectors of other shards (scenes train, 10 pictures)" in said and "(scenes val, 4 pictures)" in said
    views = {"num_views": 2, "size": 64}
    said = refused(teacher=teacher, losses=losses, model=MODEL, views={**views, "regions": "slic:20"})
    assert "region vectors of layer slic:12, not slic:20" in said
    said = refused(teacher=teacher, losses=losses, model=MODEL, views={**views, "regions": "grid:16"})
    assert "region vectors belong to a stored layer (slic:12), regions are grid:16" in said


def test_a_folder_that_holds_no_vectors_is_refused(refused, tmp_path):
    said = refused(teacher=str(tmp_path), losses={"distillation": {"weight": 1.0}}, model=MODEL)
    assert "vice-eval embed" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"assignment": assignment(source="teacher"), "model": MODEL},
            "there is no teacher: assignment.source=teach",
        ),
        ({"assignment": assignment(source="teacher"), "teacher": "x"}, "source=teacher; set model.start=encoder"),
        (
            {"losses": {"distillation": {"weight": 1.0}}, "teacher": "x"},
            "distillation cannot start at random: model",
        ),
        (
            {"losses": {"distillation": {"weight": 1.0}}, "model": MODEL},
            "there is no teacher to learn from: losses.",
        ),
        ({"assignment": assignment(source="ema")}, "assignment.source=ema; set ema_decay, as in ema_decay=0.996"),
        (
            {"views": {"num_views": 1, "size": 64, "regions": "slic:12"}},
            "swapped prediction needs two views: views",
        ),
    ],
)
def test_terms_and_sources_that_lack_what_they_need_are_refused(refused, changes, message):
    assert message in refused(**changes)


def test_a_source_is_not_asked_for_what_no_term_needs(checked, teacher):
    losses = {"distillation": {"weight": 1.0}, "swapped_prediction": {"weight": 0.0}}
    checked(assignment=assignment(source="ema"), losses=losses, teacher=teacher, model=MODEL)


def test_kmeans_of_another_source_is_refused(refused):
    said = refused(assignment=assignment(method="kmeans", source="ema"), ema_decay=0.9)
    assert "k-means clusters the network's own regions: assignment.source; set assignment.source=student" in said


def test_concepts_that_no_step_can_fill_are_refused_by_the_method(refused):
    assert "7000 concepts cannot be filled by the" in refused(assignment=assignment(num_concepts=7000))


def test_what_cannot_change_the_result_may_change(checked, refused, tmp_path, teacher):
    open_run(tmp_path / "run", tiny())
    checked(checkpoint_every=3, keep_checkpoints=1, log_every=7, pictures_every=0, cache=str(tmp_path / "cache"))
    assert "ema_decay: 0.0 -> 0.5" in refused(ema_decay=0.5)
    assert "losses.swapped_prediction.sides: " in refused(losses={"swapped_prediction": {"sides": "symmetric"}})


def test_torch_is_not_needed():
    """Preflight takes a fraction of a second: torch's import takes several."""
    import subprocess
    import sys

    code = "import sys; import vice.train.launching.preflight, vice.train.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert torch.__version__
