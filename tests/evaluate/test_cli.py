import subprocess
import sys

import numpy as np
import pytest

from vice.data_specs.results import read_results
from vice.evaluate import cli

ENCODERS = ["trained", "random encoder", "random encoder, 8 values", "untrained", "colour + position", "colour"]
ROLES = {
    "trained": "evaluated",
    "random encoder, 8 values": "random encoder reduced",
    **{name: name for name in ("random encoder", "untrained", "colour + position", "colour")},
}


@pytest.fixture
def vice_eval(monkeypatch, capsys):
    """Run the command in this process: exit code, output, error output."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vice-eval", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code or 0
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def options(tiny, tmp_path) -> list[object]:
    shards = ["--train", tiny["train"], "--val", tiny["val"]]
    return [*shards, "--run-dir", tmp_path / "eval", "--pixels-per-picture", "100"]


def test_from_a_checkpoint_to_a_report(vice_eval, options, checkpoints, tmp_path):
    run_dir = tmp_path / "eval"
    code, out, err = vice_eval("linear", checkpoints["first"], *options, "--leave-one-group-out")
    assert (code, err) == (0, "")
    assert f"next: vice-eval report {run_dir}" in out
    code, out, err = vice_eval("cluster", checkpoints["first"], *options, *(f"--k={k}" for k in (5, 9, 5)))
    assert (code, err) == (0, "")
    assert "cluster-9 hungarian" in out

    results = read_results(run_dir)
    linear = ["linear", *(f"linear-without-{group}" for group in ("north", "south", "west")), "linear-over-groups"]
    cluster = [f"cluster-{k} {r} {s}-fitted" for k in (5, 9) for r in ("greedy", "hungarian") for s in ("train", "val")]
    assert list(results.evaluations) == linear + cluster
    for name, entry in results.evaluations.items():
        assert list(entry.encoders) == ENCODERS
        assert {name: about.role for name, about in entry.compared.items()} == ROLES
        assert all(list(by) == ["clean", "changed light"] for by in entry.encoders.values()), name
    scores = results.evaluations["linear"].encoders
    assert scores["trained"] != scores["untrained"]
    tiles = [tile for entry in results.evaluations.values() for tile in entry.tiles]
    assert tiles
    assert all((run_dir / tile.file).is_file() for tile in tiles)

    code, out, _ = vice_eval("report", run_dir, "--output", tmp_path / "report.html")
    assert code == 0
    assert "report.html" in out
    assert f"{100 * scores['trained']['clean'].miou:.1f}" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_running_again_gives_the_same_numbers(vice_eval, options, checkpoints, tmp_path):
    command = ["cluster", checkpoints["first"], *options, "--k", "7", "--restarts", "1", "--spherical"]
    recorded = []
    for _ in range(2):
        assert vice_eval(*command)[0] == 0
        recorded.append([entry.encoders for entry in read_results(tmp_path / "eval").evaluations.values()])
    assert recorded[0] == recorded[1]


def test_shards_on_a_store_give_the_numbers_of_those_on_a_disk(vice_eval, options, checkpoints, tiny, tmp_path, s3):
    command = ["cluster", checkpoints["first"], *options, "--k", "7", "--restarts", "1"]
    assert vice_eval(*command)[0] == 0
    remote = {split: s3.upload(tiny[split], f"evaluated/{split}") for split in ("train", "val")}
    there = ["--train", remote["train"], "--val", remote["val"], "--run-dir", tmp_path / "there"]
    code, _, err = vice_eval("cluster", checkpoints["first"], *there, *options[6:], "--k", "7", "--restarts", "1")
    assert (code, err) == (0, "")
    here, there = (read_results(tmp_path / name).evaluations for name in ("eval", "there"))
    assert [entry.encoders for entry in here.values()] == [entry.encoders for entry in there.values()]


def test_a_set_of_classes_has_entries_and_pictures_of_its_own(vice_eval, options, checkpoints, tmp_path):
    """Stored labels, then two classes: `never` counts as bluish, greenish pixels as no class."""
    for words in ([], ["--classes", "2"]):
        for command in (["linear", "--leave-one-group-out"], ["cluster", "--k=5", "--restarts=1"]):
            assert vice_eval(command[0], checkpoints["first"], *options, *command[1:], *words)[0] == 0
    entries = read_results(tmp_path / "eval").evaluations
    plain = [name for name in entries if not name.startswith("classes-2 ")]
    assert sorted(entries) == sorted([*plain, *(f"classes-2 {name}" for name in plain)]) and "linear" in plain
    for name in plain:
        stored, coarse = entries[name], entries[f"classes-2 {name}"]
        assert (stored.train.class_set, stored.val.class_set) == (None, None)
        assert (coarse.train.class_set, coarse.val.class_set) == ("2", "2")
        before, after = (np.sum(e.encoders["trained"]["clean"].confusion, axis=1) for e in (stored, coarse))
        assert list(coarse.encoders["trained"]["clean"].iou) == ["warm", "cold"]
        assert after.tolist() == [before[0], before[2] + before[3]] and before[1] > 0
        assert not {tile.file for tile in stored.tiles} & {tile.file for tile in coarse.tiles}
    assert vice_eval("report", tmp_path / "eval", "--output", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ">tiny val, 4 classes</h2>" in page and ">tiny val, 2 classes (set 2)</h2>" in page
    refused(vice_eval("linear", checkpoints["first"], *options, "--classes", "3"), "choose from 2")


def refused(result: tuple[int, str, str], message: str) -> None:
    code, _, err = result
    assert code == 2
    assert err.startswith("vice-eval: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_checkpoint_that_is_not_there(vice_eval, options, tmp_path):
    refused(vice_eval("linear", tmp_path / "no.pt", *options), "no such checkpoint")
    assert not (tmp_path / "eval").exists()


def test_a_file_that_is_no_checkpoint(vice_eval, options, tmp_path):
    (tmp_path / "text.pt").write_text("not a checkpoint")
    refused(vice_eval("linear", tmp_path / "text.pt", *options), "text.pt")


def test_shards_that_are_not_there_or_do_not_fit(vice_eval, checkpoints, tiny, tmp_path):
    common = ["linear", checkpoints["first"], "--train", tiny["train"], "--run-dir", tmp_path / "eval", "--val"]
    refused(vice_eval(*common, tmp_path / "none"), "no such folder")
    refused(vice_eval(*common, tiny["unlabelled"]), "no labels")
    refused(vice_eval(*common, tiny["other_classes"]), "the classes differ")


def test_groups_that_are_not_there_are_told_before_anything_is_computed(vice_eval, checkpoints, tiny, tmp_path):
    data = ["--train", tiny["train"], "--val", tiny["ungrouped"], "--run-dir", tmp_path / "eval"]
    refused(
        vice_eval("linear", checkpoints["first"], *data, "--leave-one-group-out"),
        "not every picture belongs to a group",
    )
    assert read_results(tmp_path / "eval") is None


def test_more_clusters_than_vectors(vice_eval, options, checkpoints):
    refused(vice_eval("cluster", checkpoints["first"], *options, "--k", "701"), "701 clusters asked of 700 vectors")


def test_another_checkpoint_s_run_dir(vice_eval, options, checkpoints):
    fast = ["--k", "2", "--restarts", "1"]
    assert vice_eval("cluster", checkpoints["first"], *options, *fast)[0] == 0
    refused(vice_eval("cluster", checkpoints["second"], *options, *fast), "tiny-second step 30")


def test_all_gives_what_each_gives_alone(vice_eval, options, checkpoints, tmp_path):
    """One pass over the pictures for all evaluators, or one for each: the same numbers."""
    common = [checkpoints["first"], *options[:4], "--pixels-per-picture=100", "--condition=noise"]
    assert vice_eval("all", *common, "--run-dir", tmp_path / "all", "--memory-size=300")[0] == 0
    alone = {"linear": [], "cluster": ["--k=4"], "neighbors": ["--memory-size=300"]}
    for command, words in alone.items():
        words = [word for word in (*common, *words) if command != "neighbors" or not str(word).startswith("--pixels")]
        assert vice_eval(command, *words, "--run-dir", tmp_path / "each")[0] == 0
    whole, each = (read_results(tmp_path / name).evaluations for name in ("all", "each"))
    assert list(whole) == list(each) and {"linear", "neighbors"} < set(whole)
    for name, entry in whole.items():
        assert list(entry.encoders["trained"]) == ["clean", "noise"]
        assert entry.encoders == each[name].encoders, name


def test_pictures_of_another_size_have_entries_of_their_own(vice_eval, options, checkpoints, tmp_path):
    for words in ([], ["--short-side=48"], ["--short-side=48", "--flip", "--scale=1", "--scale=1.5"]):
        assert vice_eval("linear", checkpoints["first"], *options, "--repeats=2", *words)[0] == 0
    entries = read_results(tmp_path / "eval").evaluations
    assert list(entries) == ["linear", "short-side-48 linear", "averaged short-side-48 linear"]
    stored, smaller, averaged = (entry.encoders["trained"]["clean"] for entry in entries.values())
    assert len({stored.miou, smaller.miou, averaged.miou}) == 3
    told = entries["averaged short-side-48 linear"].settings["pictures"]["averaged"]
    assert told == {"scales": [1.0, 1.5], "mirrored_too": True}
    assert [repeat.seed for repeat in smaller.repeats] == [0, 1]
    assert "shorter side 48 pixels" in entries["short-side-48 linear"].settings["pictures"]["size"]


def test_networks_of_others_are_evaluated_as_ours(vice_eval, options, tmp_path):
    assert vice_eval("linear", "torchvision/resnet18", *options, "--output-stride=8")[0] == 2  # cannot be dilated
    sizes = {"all": (4, 600), "last": (32, 368)}
    for levels, size in sizes.items():
        words = ["--run-dir", tmp_path / levels, "--levels", levels]
        code, _, err = vice_eval("linear", "timm/regnetx_002", *options, *words)
        assert (code, err) == (0, "")
        results = read_results(tmp_path / levels)
        assert (results.encoder.kind, results.encoder.levels, results.training) == ("timm", levels, None)
        assert (results.encoder.stride, results.encoder.dim) == size
        entry = results.evaluations["linear"]
        assert list(entry.encoders) == ["untrained", "colour + position", "colour"]
        assert entry.compared["untrained"].standardised == (levels == "all")
    refused(vice_eval("linear", "timm/regnetx_002", *options, "--run-dir", tmp_path / "last"), "last map")


def test_a_reduced_backbone_stands_beside_its_random_twin(vice_eval, options, pretrained, tmp_path):
    weights = pretrained.parent.parent / "weights.pth"
    command = ["timm/regnetx_002", "--weights", weights, "--dims=9"]
    code, out, err = vice_eval("all", *command, *options, "--k=5", "--memory-size=300")
    assert (code, err) == (0, "")
    assert "linear, trained: " in out
    results = read_results(tmp_path / "eval")
    assert (results.encoder.dim, results.encoder.dims, results.encoder.levels) == (9, 9, "all")
    for entry in results.evaluations.values():
        assert list(entry.encoders) == ["trained", "untrained", "colour + position", "colour"]
        assert [about.role for about in entry.compared.values()][:2] == ["evaluated", "untrained"]
        assert [entry.compared[name].reduced_from for name in ("trained", "untrained")] == [600, 600]
    refused(vice_eval("linear", *command, *options, "--dims=601"), "only 600 values per cell: --dims 601")


def test_a_run_from_pretrained_weights_stands_beside_what_it_started_from(vice_eval, options, pretrained, tmp_path):
    assert vice_eval("linear", pretrained, *options, "--leave-one-group-out")[0] == 0
    code, _, err = vice_eval("cluster", pretrained, *options, "--k=5")
    assert (code, err) == (0, "")
    roles = ["evaluated", "frozen encoder", "frozen encoder reduced", "step 0", "colour + position", "colour"]
    results = read_results(tmp_path / "eval")
    for entry in results.evaluations.values():
        assert [entry.compared[name].role for name in entry.encoders] == roles
        assert [about.dim for about in entry.compared.values()] == [8, 600, 8, 8, 5, 3]
        assert entry.missing == {}
    assert vice_eval("report", tmp_path / "eval", "--output", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "frozen encoder, 8 values" in page and "PCA of 600 values that keeps" in page


def test_weights_that_are_gone_leave_the_rest_and_one_line(vice_eval, options, pretrained, tmp_path):
    (pretrained.parent.parent / "weights.pth").unlink()
    code, out, err = vice_eval("linear", pretrained, *options)
    assert (code, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("not evaluated: ")]
    assert line.startswith("not evaluated: frozen encoder; frozen encoder, 8 values; step 0 (no such file of weights: ")
    entry = read_results(tmp_path / "eval").evaluations["linear"]
    assert list(entry.encoders) == ["trained", "colour + position", "colour"]
    assert set(entry.missing) == {"frozen encoder", "frozen encoder, 8 values", "step 0"}
    assert vice_eval("report", tmp_path / "eval", "--output", tmp_path / "report.html")[0] == 0
    assert "Not evaluated: frozen encoder;" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_maps_are_chosen_of_other_peoples_networks_only(vice_eval, options, checkpoints):
    for words in (["--levels", "last"], ["--dims", "4"], ["--output-stride", "8"]):
        result = vice_eval("linear", checkpoints["first"], *options, *words)
        message = "only networks of timm and torchvision have maps to choose from, to dilate and to reduce"
        refused(result, f"{message}: {' '.join(words)}")


def test_a_condition_or_weights_that_are_not_there(vice_eval, options, checkpoints):
    refused(vice_eval("linear", checkpoints["first"], *options, "--condition", "fog"), "no such condition: fog")
    refused(vice_eval("linear", checkpoints["first"], *options, "--weights", "x"), "take weights: --weights x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["linear", "--learning-rate=0.1"], "--learning-rate has no effect with --recipe quick"),
        (["linear", "--recipe=paper", "--l2=0.1"], "--l2 has no effect with --recipe paper"),
        (["linear", "--recipe=paper", "--leave-one-group-out"], "--recipe paper has no effect with --leave"),
        (["linear", "--repeats=2", "--leave-one-group-out"], "--repeats has no effect with --leave-one-group-out"),
        (["cluster", "--seed=2147483647", "--repeats=2"], "goes beyond the largest seed"),
    ],
)
def test_options_that_would_have_no_effect_are_refused_at_once(vice_eval, options, words, message):
    refused(vice_eval(words[0], "none.pt", *options, *words[1:]), message)


@pytest.mark.parametrize("words", [["linear", "--l2=nan"], ["all", "--scale=nan"], ["cluster", "--seed=4294967296"]])
def test_numbers_that_no_evaluation_can_take(vice_eval, options, words):
    code, _, err = vice_eval(words[0], "none.pt", *options, *words[1:])
    assert code == 2 and words[1].split("=")[0] in err and "Traceback" not in err


def test_a_device_that_is_not_there(vice_eval, options, checkpoints):
    for name in ("cuda:99", "sofa"):
        result = vice_eval("linear", checkpoints["first"], *options, "--device", name)
        refused(result, f"no such device here: --device {name}")


def test_a_run_dir_that_cannot_be_made(vice_eval, options, checkpoints, tmp_path):
    (tmp_path / "eval").write_text("a file")
    refused(vice_eval("linear", checkpoints["first"], *options), "cannot write to this folder")


def test_a_report_of_nothing(vice_eval, tmp_path):
    refused(vice_eval("report", tmp_path, "--output", tmp_path / "report.html"), "no results.json")


@pytest.mark.parametrize("command", ["all", "linear", "cluster", "neighbors", "report"])
def test_help_shows_an_example(vice_eval, command):
    code, out, _ = vice_eval(command, "--help")
    assert code == 0
    assert f"vice-eval {command} runs/" in " ".join(out.split("Example:")[1].split())


def test_help_and_report_do_not_wait_for_torch():
    program = "import vice.evaluate.cli, vice.evaluate.report.page, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
