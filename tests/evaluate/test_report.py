import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.results import (
    CheckpointRef,
    DataRef,
    Evaluation,
    Results,
    Tile,
    TrainingCurve,
    write_results,
)
from vice.evaluate.charts import HEIGHT, WIDTH, loss_chart, round_values
from vice.evaluate.metrics import score
from vice.evaluate.report import load_runs, write_report
from vice.evaluate.report_content import percent, picture_rows, score_rows, signed, summary

CLASSES = ["Sky & cloud", "Road", "Car"]
COLOURS = {"Sky & cloud": "#0a0b0c", "Road": "#1a1b1c", "Car": "#2a2b2c"}
CONFUSIONS = {
    ("trained", "clean"): [[50, 10, 0], [5, 30, 0], [2, 3, 0]],
    ("trained", "changed light"): [[45, 15, 0], [10, 25, 0], [2, 3, 0]],
    ("untrained", "clean"): [[40, 20, 0], [10, 25, 0], [3, 2, 0]],
    ("untrained", "changed light"): [[20, 40, 0], [20, 15, 0], [3, 2, 0]],
    ("colour + position", "clean"): [[30, 30, 0], [20, 15, 0], [3, 2, 0]],
    ("colour + position", "changed light"): [[10, 50, 0], [30, 5, 0], [5, 0, 0]],
}


def evaluation(kind: str, settings: dict, tiles: list[Tile]) -> Evaluation:
    ref = DataRef(dataset="tiny", split="val", num_pictures=2, fingerprint="f" * 64)
    encoders: dict = {}
    for (encoder, condition), confusion in CONFUSIONS.items():
        encoders.setdefault(encoder, {})[condition] = score(np.array(confusion), CLASSES)
    return Evaluation(
        kind=kind, settings=settings, train=ref, val=ref, encoders=encoders, seconds=3, tiles=tiles, colours=COLOURS
    )


def write_run(folder, *, name="preset", step=30, tiles=()):
    counts = {"step": step, "num_steps": 40, "num_concepts": 16, "views_seen": 1234}
    checkpoint = CheckpointRef(sha256="c" * 64, name=name, shards_fingerprint="d" * 64, **counts)
    kmeans = {"kmeans": {"num_clusters": 27}, "matching": {"rule": "greedy"}}
    results = Results(
        checkpoint=checkpoint,
        training=TrainingCurve(steps=[10, 20, 30], loss=[2.9, 2.5, 2.4], ln_num_concepts=2.7726),
        versions={"torch": "9.8.7"},
        evaluations={
            "linear": evaluation("linear", {"probe": {"l2": 0.00125}}, list(tiles)),
            "cluster-27 greedy train-fitted": evaluation("cluster", kmeans, []),
        },
    )
    write_results(folder, results)
    return results


@pytest.fixture
def run(tmp_path):
    """A run directory with a record and one picture, another one missing, one outside the directory."""
    folder = tmp_path / "run"
    (folder / "pictures").mkdir(parents=True)
    data = cv2.imencode(".png", np.full((6, 8, 3), 90, np.uint8))[1].tobytes()
    (folder / "pictures" / "there.png").write_bytes(data)
    (tmp_path / "outside.png").write_bytes(data + b"outside")
    files = {"pictures/there.png": "picture", "pictures/gone.png": "labels", "../outside.png": "prediction"}
    common = {"key": "val-1", "condition": "clean", "encoder": None}
    write_run(folder, tiles=[Tile(file=file, shows=shows, **common) for file, shows in files.items()])
    return folder


class Page(HTMLParser):
    """Collects what a page shows and what it fetches; fails on tags that are not closed in order."""

    VOID = frozenset({"meta", "img", "br", "line", "polyline"})

    def __init__(self, text: str):
        super().__init__()
        self.open, self.text, self.addresses, self.tags = [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "xlink:href", "action", "data"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def page_of(path) -> tuple[Page, str]:
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return page, " ".join(" ".join(page.text).split())


def test_the_page_holds_the_record_s_numbers(run, tmp_path):
    _, text = page_of(write_report([run], tmp_path / "report.html"))
    for confusion in CONFUSIONS.values():
        result = score(np.array(confusion), CLASSES)
        for share in (result.miou, result.accuracy, *(value for value in result.iou.values() if value is not None)):
            assert f"{100 * share:.1f}" in text
    for told in ("preset, step 30", "1,234", "0.00125", "9.8.7", "ln K = 2.77", "Sky & cloud"):
        assert told in text
    for fingerprint in ("c" * 64, "d" * 64, "f" * 64):
        assert fingerprint in text


def test_the_legend_and_the_table_of_classes_show_the_record_s_colours(run, tmp_path):
    text = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert [text.count(f"background:{colour}") for colour in COLOURS.values()] == [2, 2, 2]


def test_the_page_fetches_nothing_and_runs_nothing(run, tmp_path):
    page, _ = page_of(write_report([run], tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.addresses, "the picture is an address, so the check below sees something"
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|url\(|@import", text)


def test_pictures_travel_inside_but_only_those_of_the_run(run, tmp_path):
    page, text = page_of(write_report([run], tmp_path / "report.html"))
    there = (run / "pictures" / "there.png").read_bytes()
    assert page.addresses == ["data:image/png;base64," + base64.b64encode(there).decode()]
    assert text.count("file missing") == 2


def test_the_summary_tells_the_difference_that_training_made(run):
    (loaded,) = load_runs([run])
    sentences = summary(loaded)
    trained, untrained = (score(np.array(CONFUSIONS[name, "clean"]), CLASSES).miou for name in ("trained", "untrained"))
    told = (
        f"{100 * trained:.1f} % trained, {100 * untrained:.1f} % untrained (+{100 * (trained - untrained):.1f} points"
    )
    assert sentences[0] == "Trained on 1,234 views; loss 2.40, 0.37 below ln K."
    assert sentences[1].startswith(f"Linear mIoU: {told}")
    assert sentences[2].startswith("Linear mIoU under changed light: ")
    assert sentences[3].startswith("mIoU of 27 clusters: ")


def test_several_runs_stand_side_by_side(run, tmp_path):
    other, twin = tmp_path / "other", tmp_path / "twin"
    write_run(other, name="larger", step=900)
    write_run(twin)
    runs = load_runs([run, other, twin, run])
    names = [f"preset, step 30 ({run})", "larger, step 900", f"preset, step 30 ({twin})"]
    assert [each.name for each in runs] == names
    rows = score_rows(runs, "linear")
    assert [row.encoder for row in rows] == ["trained", "untrained", "colour + position"]
    assert [row.first for row in rows] == [True, False, False]
    assert all(len(row.cells) == 3 for row in rows)
    assert [row.best for row in rows] == [[[True, True]] * 3, [[False, False]] * 3, [[False, False]] * 3]
    page, text = page_of(write_report([run, other, twin], tmp_path / "report.html"))
    assert "3 runs side by side" in text
    assert "polyline" in page.tags


def test_an_evaluation_that_one_run_lacks_leaves_its_cells_free(run, tmp_path):
    results = write_run(tmp_path / "other", name="other")
    linear_only = {"linear": results.evaluations["linear"]}
    write_results(tmp_path / "other", results.model_copy(update={"evaluations": linear_only}))
    rows = score_rows(load_runs([run, tmp_path / "other"]), "cluster")
    assert all(row.cells[1] == [None, None] for row in rows)
    page_of(write_report([run, tmp_path / "other"], tmp_path / "report.html"))


def test_a_checkpoint_without_metrics_has_no_curve(tmp_path):
    results = write_run(tmp_path / "run")
    write_results(tmp_path / "run", results.model_copy(update={"training": None}))
    page, text = page_of(write_report([tmp_path / "run"], tmp_path / "deep" / "report.html"))
    assert "svg" not in page.tags
    assert "Trained on 1,234 views." in text


def test_a_folder_without_results_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no results\.json with an evaluation: .*; write one with vice-eval linear"):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_an_output_that_cannot_be_written_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot be written"):
        write_report([run], tmp_path / "file" / "report.html")


def test_a_picture_s_conditions_stand_together_and_columns_line_up(tmp_path):
    order = [
        ("a", "clean"),
        ("b", "clean"),
        ("a", "changed light"),
        ("b", "changed light"),
    ]  # as batches of two make them
    tiles = [Tile(file="none", key=key, condition=light, encoder=None, shows="picture") for key, light in order]
    tiles.insert(1, Tile(file="none", key="a", condition="clean", encoder=None, shows="labels"))
    write_run(tmp_path / "run", tiles=tiles)
    (loaded,) = load_runs([tmp_path / "run"])
    rows = picture_rows(loaded, loaded.results.evaluations["linear"])
    assert [(row.key, row.condition) for row in rows] == [(k, c) for k in "ab" for c in ("clean", "changed light")]
    shown = [[picture and picture.caption for picture in row.pictures] for row in rows]
    assert shown == [["picture", "labels"], ["picture", None], ["picture", None], ["picture", None]]


def test_names_from_records_cannot_become_markup(tmp_path):
    write_run(tmp_path / "run", name="<script>x</script>")
    page, _ = page_of(write_report([tmp_path / "run"], tmp_path / "report.html"))
    assert "script" not in page.tags


def test_the_chart_puts_ln_k_and_the_losses_where_they_belong():
    curve = TrainingCurve(steps=[0, 50, 100], loss=[4.0, 3.0, 2.0], ln_num_concepts=3.5)
    chart = loss_chart({"run": curve})
    x, y = np.array([point.split(",") for point in chart.lines[0].points.split()], float).T
    assert (np.diff(x) > 0).all()
    assert y[1] - y[0] == pytest.approx(y[2] - y[1], abs=0.2)  # places are rounded to 0.1
    assert chart.levels[0].place == pytest.approx((y[0] + y[1]) / 2, abs=0.2)  # 3.5 lies midway between 4 and 3
    places = [tick.place for tick in (*chart.across, *chart.up)]
    assert min(places) >= 0
    assert max(places) <= max(WIDTH, HEIGHT)
    assert [tick.text for tick in chart.across] == ["0", "20", "40", "60", "80", "100"]
    assert loss_chart({}) is None


def test_one_point_makes_a_chart():
    assert loss_chart({"run": TrainingCurve(steps=[1], loss=[4.0], ln_num_concepts=4.0)}).lines[0].points


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 100.0, [0, 20, 40, 60, 80, 100]), (0.23, 0.61, [0.3, 0.4, 0.5, 0.6]), (2.0, 4.3, [2, 2.5, 3, 3.5, 4])],
)
def test_ticks_are_round_values(low, high, expected):
    assert round_values(low, high, at_most=6) == expected


def test_shares_are_told_in_per_cent():
    assert (percent(0.12345), percent(None), signed(-0.031), signed(0.031)) == ("12.3", "–", "−3.1", "+3.1")
