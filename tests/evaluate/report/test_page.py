import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from records import CLASSES, COLOURS, CONFUSIONS, REF, bounds, evaluation, full_run, write_run

from vice.data_specs.entries import Tile
from vice.data_specs.errors import InputError, WorkError
from vice.data_specs.results import EncoderRef, Results, TrainingCurve, write_results
from vice.evaluate.comparison import signed
from vice.evaluate.metrics import score
from vice.evaluate.report import figures
from vice.evaluate.report.charts import HEIGHT, WIDTH, loss_chart, round_values
from vice.evaluate.report.figures import picture_rows
from vice.evaluate.report.page import write_report
from vice.evaluate.report.paper import paper_rows, published, reservation
from vice.evaluate.report.runs import groups, load_runs
from vice.evaluate.report.sentences import percent, summary
from vice.evaluate.report.tables import cluster_rows, columns, matrix, score_rows


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
    CODE = frozenset({"style", "script"})

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
        if self.open and self.open[-1] not in self.CODE:
            self.text.append(data)


def page_of(path) -> tuple[Page, str]:
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    return page, " ".join(" ".join(page.text).split())


def test_the_page_holds_the_record_s_numbers(run, tmp_path):
    _, text = page_of(write_report([run], tmp_path / "report.html"))
    for (_, condition), confusion in CONFUSIONS.items():
        result = score(np.array(confusion), CLASSES)
        by_class = [value for value in result.iou.values() if value is not None] if condition == "clean" else []
        for share in (result.miou, result.accuracy, *by_class):
            assert f"{100 * share:.1f}" in text
    for told in ("preset, step 30", "1,234", "0.00125", "9.8.7", "ln K = 2.77", "Sky & cloud"):
        assert told in text
    for fingerprint in ("c" * 64, "e" * 64, "f" * 64):
        assert fingerprint in text


def test_the_legend_and_the_table_of_classes_show_the_record_s_colours(run, tmp_path):
    text = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    assert [text.count(f"background:{colour}") for colour in COLOURS.values()] == [2, 2, 2]


def test_the_page_fetches_nothing(tmp_path):
    page, _ = page_of(write_report([full_run(tmp_path / "run")], tmp_path / "report.html"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.addresses, "the picture is an address, so the check below sees something"
    assert all(re.match(r"data:image/(png|jpeg);base64,|#[a-z0-9-]+$", address) for address in page.addresses)
    assert not page.tags & {"link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|fetch\(|XMLHttpRequest|import\(", text)
    # styles get pictures from the page's own data alone
    assert re.findall(r"url\([^)]*\)", text) == ['url("${data.sprite}")']


def test_pictures_travel_inside_but_only_those_of_the_run(run, tmp_path):
    page, text = page_of(write_report([run], tmp_path / "report.html"))
    there = (run / "pictures" / "there.png").read_bytes()
    pictures = [address for address in page.addresses if not address.startswith("#")]
    assert pictures == ["data:image/png;base64," + base64.b64encode(there).decode()]
    assert text.count("file missing") == 2


def test_the_summary_tells_the_difference_that_training_made(run):
    (loaded,) = load_runs([run])
    (group,) = groups([loaded])
    sentences = summary(loaded, group)
    trained, untrained = (score(np.array(CONFUSIONS[name, "clean"]), CLASSES).miou for name in ("trained", "untrained"))
    told = f"{100 * trained:.1f} % trained; {100 * untrained:.1f} % untrained; "
    assert sentences[0].startswith(f"Linear mIoU: {told}")
    points = f"{100 * (trained - untrained):.1f} clean, "
    assert sentences[1].startswith(f"Linear mIoU, trained: better than untrained (+{points}")
    assert sentences[2].startswith("Linear mIoU, points that changed pictures cost: −")
    assert sentences[3].startswith("mIoU of 27 clusters: ")
    assert len(sentences) == 6  # the hungarian mapping is told in its table alone


def test_a_baseline_that_does_as_well_is_named(tmp_path):
    other = {"trained": "untrained", "untrained": "trained"}
    swapped = {(other.get(name, name), condition): found for (name, condition), found in CONFUSIONS.items()}
    write_run(tmp_path / "run", evaluations={"linear": evaluation("linear", {}, confusions=swapped)})
    (loaded,) = load_runs([tmp_path / "run"])
    assert "Not better than untrained (−" in summary(loaded, groups([loaded])[0])[1]


def test_an_encoder_from_other_data_is_told(tmp_path):
    results = write_run(tmp_path / "run")
    other = results.encoder.model_copy(update={"shards_fingerprint": "a" * 64})
    write_results(tmp_path / "run", results.model_copy(update={"encoder": other}))
    (loaded,) = load_runs([tmp_path / "run"])
    assert "trained on other shards" in summary(loaded, groups([loaded])[0])[-1]


def test_several_runs_stand_side_by_side(run, tmp_path):
    other, twin = tmp_path / "other", tmp_path / "twin"
    write_run(other, name="larger", step=900)
    write_run(twin)
    runs = load_runs([run, other, twin, run])
    names = [f"preset, step 30 ({run})", "larger, step 900", f"preset, step 30 ({twin})"]
    assert [each.name for each in runs] == names
    rows = [row for row in score_rows(groups(runs)[0]) if row.evaluation == "linear"]
    assert [row.encoder for row in rows] == ["trained", "untrained", "colour + position"]
    assert [row.first for row in rows] == [True, False, False]
    assert all(len(row.cells) == 3 for row in rows)
    best = [[[cell.best for cell in cells] for cells in row.cells] for row in rows]
    assert best == [[[True, True]] * 3, [[False, False]] * 3, [[False, False]] * 3]
    page, text = page_of(write_report([run, other, twin], tmp_path / "report.html"))
    assert "3 runs side by side" in text
    assert "polyline" in page.tags


def test_runs_fitted_on_other_data_or_with_other_settings_share_no_row(run, tmp_path):
    """The same baseline once read 21.3 and 29.2 in one row: one of its probes had been fitted on a single picture."""
    probe = {"probe": {"l2": 0.00125}}
    alone = evaluation("linear", probe)
    alone = alone.model_copy(
        update={"train": alone.train.model_copy(update={"num_pictures": 1, "fingerprint": "a" * 64})}
    )
    penalised = evaluation("linear", {"probe": {"l2": 1.0}, "fits": {"trained": {"loss": 2}}})
    write_run(tmp_path / "alone", name="alone", evaluations={"linear": alone})
    write_run(tmp_path / "penalised", name="penalised", evaluations={"linear": penalised})
    write_run(tmp_path / "same", name="same", evaluations={"linear": evaluation("linear", probe | {"fits": {"x": 1}})})
    folders = [run, *(tmp_path / name for name in ("alone", "penalised", "same"))]
    (group,) = groups(load_runs(folders))
    rows = [row for row in score_rows(group) if row.evaluation == "linear" and row.encoder == "colour + position"]
    there = [[cells[0] is not None for cells in row.cells] for row in rows]
    assert there == [[True, False, False, True], [False, True, False, False], [False, False, True, False]]
    assert [row.differs_in for row in rows] == [
        f"probe.l2 {l2}; train.num_pictures {pictures}; train.fingerprint {name * 12}"
        for l2, pictures, name in ((0.00125, 2, "e"), (0.00125, 1, "a"), (1.0, 2, "e"))
    ]
    _, text = page_of(write_report(folders, tmp_path / "report.html"))
    assert rows[1].differs_in in text and "they are not to be compared" in text


def test_an_evaluation_that_one_run_lacks_leaves_its_cells_free(run, tmp_path):
    same = evaluation("linear", {"probe": {"l2": 0.00125}})
    write_run(tmp_path / "other", name="other", evaluations={"linear": same})
    (group,) = groups(load_runs([run, tmp_path / "other"]))
    rows = [row for row in score_rows(group) if row.evaluation.startswith("cluster")]
    assert rows and all(row.cells[1] == [None, None] for row in rows)
    page_of(write_report([run, tmp_path / "other"], tmp_path / "report.html"))


def test_other_data_never_stand_in_the_same_table(run, tmp_path):
    elsewhere = REF.model_copy(update={"dataset": "cityscapes", "fingerprint": "b" * 64, "num_pictures": 500})
    write_run(tmp_path / "other", name="other", evaluations={"linear": evaluation("linear", {}, ref=elsewhere)})
    found = groups(load_runs([run, tmp_path / "other"]))
    assert [(group.title, len(group.runs)) for group in found] == [
        ("tiny val, 3 classes", 1),
        ("cityscapes val, 3 classes", 1),
    ]
    _, text = page_of(write_report([run, tmp_path / "other"], tmp_path / "report.html"))
    assert "tiny val, 3 classes" in text and "cityscapes val, 3 classes" in text


def test_several_conditions_and_seeds(tmp_path):
    (loaded,) = load_runs([full_run(tmp_path / "run")])
    (group,) = groups([loaded])
    assert columns(group) == ["clean", "changed"]
    row = next(row for row in score_rows(group) if row.evaluation == "neighbors" and row.encoder == "trained")
    clean, changed = row.cells[0]
    by = loaded.results.evaluations["neighbors"].encoders["trained"]
    assert changed.miou == pytest.approx((by["changed light"].miou + by["blur"].miou) / 2)
    assert clean.spread == pytest.approx(np.std([repeat.miou for repeat in by["clean"].repeats], ddof=1))
    assert changed.spread is None
    _, text = page_of(write_report([tmp_path / "run"], tmp_path / "report.html"))
    assert f"{100 * clean.miou:.1f} ±{100 * clean.spread:.1f}" in text
    assert "Condition by condition" in text and f"{100 * by['blur'].miou:.1f}" in text


def test_clusters_stand_in_a_table_of_their_mappings(run):
    (group,) = groups(load_runs([run]))
    rows = cluster_rows(group, 0)
    assert (rows[0].num_clusters, rows[0].encoder) == ("cluster-27", "trained")
    assert [score is not None for score in rows[0].scores] == [True, False, False, True]


def test_what_is_taken_for_what(run):
    (group,) = groups(load_runs([run]))
    found = matrix(group.evaluations[0]["linear"])
    assert found.classes == CLASSES
    np.testing.assert_allclose(found.shares[0], [50 / 60, 10 / 60, 0])
    assert found.pairs[0] == ("Sky & cloud", "Road", 10 / 60)


def test_the_paper_s_rows_say_why_they_are_not_the_same(run, tmp_path):
    (group,) = groups(load_runs([run]))
    rows = paper_rows(group)
    assert [(row.method, row.source) for row in rows[:2]] == [("preset, step 30 (trained)", "")] * 2
    assert {row.reservation for row in rows[2:]} == {"another dataset"}
    assert {row.evaluation for row in rows} == {"linear", "cluster-27 greedy"}
    ref = REF.model_copy(update={"dataset": "cityscapes"})
    write_run(tmp_path / "other", evaluations={"linear": evaluation("linear", {}, ref=ref)})
    same = [row for row in paper_rows(groups(load_runs([tmp_path / "other"]))[0]) if "cityscapes" in row.source]
    assert same and {row.reservation for row in same} == {"27 classes, ours 3"}


def test_the_same_protocol_has_no_reservation_but_what_was_not_published(run):
    ref = REF.model_copy(update={"dataset": "cityscapes", "num_pictures": 500})
    classes = [f"class {number}" for number in range(27)]
    group = groups(load_runs([run]))[0]._replace(ref=ref, classes=classes)
    found = {row["method"]: reservation(row, group) for row in published() if row["dataset"] == "cityscapes"}
    assert found["ViCE high-res, trained on COCO"] == ""
    assert found["PiCIE"] == found["STEGO (ViT)"] == "clusters matched on val labels, ours on train labels"
    clusters = next(row for row in published() if row["evaluation"] == "cluster-128 greedy")
    assert reservation(clusters | {"dataset": "cityscapes"}, group).endswith("are not published")


def test_the_paper_s_numbers_are_those_of_its_tables():
    rows = {(row["method"], row["dataset"], row["evaluation"]): row["miou"] for row in published()}
    assert rows["ViCE low-res", "coco_stuff", "linear"] == 25.49
    assert rows["ViCE low-res", "cityscapes", "cluster-128 greedy"] == 21.48
    assert rows["ViCE high-res, trained on COCO", "cityscapes", "linear"] == 34.14
    assert len(rows) == len(published())


def test_region_layers_and_concepts_are_shown(tmp_path):
    page, text = page_of(write_report([full_run(tmp_path / "run")], tmp_path / "report.html"))
    assert "0.500 ±0.004" in text and "7.2" in text  # boundary recall; the thin class
    assert "2 of 3 concepts in use" in text and "1 · 75.0 %" in text
    assert "canvas" in page.tags


def test_of_many_concepts_the_most_used_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "MOST_CARDS", 1)
    _, text = page_of(write_report([full_run(tmp_path / "run")], tmp_path / "report.html"))
    assert "2 of 3 concepts in use" in text and "The 1 most used concepts" in text
    assert "1 · 75.0 %" in text and "0 · 25.0 %" not in text


def test_region_layers_alone_make_a_report(tmp_path):
    write_results(tmp_path / "run", Results(versions={}, regions={"tiny val": bounds()}))
    _, text = page_of(write_report([tmp_path / "run"], tmp_path / "report.html"))
    assert "Region layers alone" in text


def test_an_encoder_that_is_no_checkpoint(tmp_path):
    other = EncoderRef(kind="timm", name="timm/resnet18", sha256="c" * 64, dim=512, stride=32, weights="random")
    write_run(tmp_path / "run", encoder=other, training=None)
    _, text = page_of(write_report([tmp_path / "run"], tmp_path / "report.html"))
    assert "timm/resnet18, random weights: 512 values per cell of 32 pixels." in text


def test_the_report_says_that_packaged_weights_were_trained_with_labels(tmp_path):
    start = "trained from the encoder's packaged weights (ImageNet, trained with labels)"
    ref = write_run(tmp_path / "run").encoder.model_copy(update={"weights": start})
    write_run(tmp_path / "labelled", encoder=ref)
    _, text = page_of(write_report([tmp_path / "labelled"], tmp_path / "report.html"))
    assert " ln K. Trained from the encoder's packaged weights (ImageNet, trained with labels)." in text


def test_a_checkpoint_without_metrics_has_no_curve(tmp_path):
    write_run(tmp_path / "run", training=None)
    page, text = page_of(write_report([tmp_path / "run"], tmp_path / "deep" / "report.html"))
    assert "svg" not in page.tags
    assert "Trained on 1,234 views." in text


def test_a_folder_without_results_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"no results\.json with an evaluation: .*; write one with vice-eval all"):
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
    page, text = page_of(write_report([tmp_path / "run"], tmp_path / "report.html"))
    assert page.tags and "<script>x</script>" in text
    assert "<script>x" not in (tmp_path / "report.html").read_text(encoding="utf-8")


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
