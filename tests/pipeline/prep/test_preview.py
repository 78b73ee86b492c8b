"""What a complete OUT holds, told and drawn."""

import json
import re

import cv2
import numpy as np
import pyarrow as pa
import pytest
from sharding import blobs, png, shard_serially

from vice.data_specs.errors import InputError
from vice.data_specs.regions import RegionLayer
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.loader.drawing import outlined, view_picture
from vice.pipeline.loader.order import SampleOrder
from vice.pipeline.loader.reference import make_views, view_levels
from vice.pipeline.loader.settings import AppearanceSettings
from vice.pipeline.loader.source import StepSource
from vice.pipeline.prep.info import entry_totals, facts, facts_json, map_totals, summary
from vice.pipeline.prep.panels import (
    VIEW_COLOURS,
    Fit,
    box_on_panel,
    picture_panel,
    regions_panel,
    view_panels,
)
from vice.pipeline.prep.preview import preview_settings, sample_row, sample_views, write_preview
from vice.pipeline.prep.sheet_png import spelled
from vice.pipeline.samples import Sample
from vice.pipeline.shards import Shards


def test_facts_count_what_is_there(shards):
    told = facts(shards)
    assert (told["num_inputs"], told["num_samples"], told["num_rejected"], told["num_shards"]) == (40, 36, 4, 5)
    assert told["has_labels"] and told["dataset"] == "quarters"
    assert told["mean_size"] == pytest.approx([(96 + 64 + 81) / 3, (72 + 80 + 67) / 3])
    opened = Shards(shards)
    regions = [int(opened.sample(number).regions["slic10"].max()) + 1 for number in range(36)]
    assert told["mean_regions"]["slic:10"] == pytest.approx(np.mean(regions))
    assert told["member_bytes"]["jpg"] == sum(len(opened.read(number, ["jpg"])[0]) for number in range(36))
    assert json.loads(facts_json(shards)) == told


def test_facts_know_the_spread_and_the_size_of_regions(shards):
    told, opened = facts(shards), Shards(shards)
    maps = [opened.sample(number).regions["slico16"] for number in range(36)]
    numbers = [int(ids.max()) + 1 for ids in maps]
    assert (told["min_regions"]["slico:16"], told["max_regions"]["slico:16"]) == (min(numbers), max(numbers))
    side = (sum(ids.size for ids in maps) / sum(numbers)) ** 0.5
    assert told["mean_region_size"]["slico:16"] == pytest.approx(side)


def test_maps_are_added_up_over_chunks_and_slices():
    kind = pa.map_(pa.string(), pa.int32())
    rows = [[("a", 2_000_000_000), ("b", 1)], [("b", 7), ("a", 2_000_000_000)], [("a", 5)], []]
    chunks = pa.chunked_array([pa.array(rows, kind), pa.array(rows, kind).slice(1, 2), pa.array([], kind)])
    assert map_totals([entry_totals(chunk) for chunk in chunks.chunks]) == {
        "a": {"sum": 6_000_000_010, "min": 5, "max": 2_000_000_000},
        "b": {"sum": 15, "min": 1, "max": 7},
    }


def test_the_summary_names_reasons_and_what_to_do_next(shards):
    lines = summary(shards).splitlines()
    assert lines[0] == "samples    36 of 40 inputs in 5 shards"
    rejected = next(i for i, line in enumerate(lines) if line.startswith("rejected"))
    following = next(i for i, line in enumerate(lines) if line.startswith("next"))
    assert lines[rejected].endswith("4  inputs") and following - rejected == 1 + 4
    commands = [line[11:] for line in lines[following:]]
    assert [command.split()[:2] for command in commands] == [
        ["vice-prep", "verify"],
        ["vice-prep", "preview"],
        ["vice-train", "launch"],
    ]


def test_a_png_has_four_columns_whatever_is_shown(shards, tmp_path):
    write_preview(shards, tmp_path / "sheet.png", num_samples=3)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 2 * 24 + 4 * 384 + 3 * 16
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_an_html_page_holds_all_panels_and_needs_nothing_else(shards, tmp_path):
    write_preview(str(shards), tmp_path / "sheet.html", num_samples=2)
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == page.count('<img alt="') == 2 * (5 + 4)
    assert not re.search(r"https?:|<script|<link|url\(|@import", page)
    assert "36 of 40 inputs" in page and re.search(r"upper \d+ %", page)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_views_on_the_sheet_are_those_of_the_loader(shards, number):
    opened = Shards(shards)
    view_settings = preview_settings(opened)
    order = SampleOrder(len(opened), global_batch=len(opened), seed=3)
    planned = {planned.number: planned for planned in StepSource(opened, order, view_settings).step(1)}[number]
    sample, plan, views = sample_views(opened, number, view_settings, seed=3, epoch=1)
    for ours, theirs in zip(plan, planned.plan, strict=True):
        np.testing.assert_equal(ours, theirs)
    expected = make_views(sample.picture, sample.regions["slic10"], planned.plan, view_settings)
    fit = Fit(view_settings.size + 8, view_settings.size + 8)
    for view, panel in enumerate(view_panels(views, plan, view_settings, fit)):
        assert panel.pixels.shape == (view_settings.size + 8,) * 2 + (3,)
        assert (panel.pixels[:4] == VIEW_COLOURS[view]).all()
        shown, inside = panel.pixels[4:-4, 4:-4], expected.regions[view]
        wanted = outlined(view_picture(expected.images[view]), inside)
        np.testing.assert_array_equal(shown, wanted)
        assert f"{len(expected.region_ids)} mutual regions" in panel.details


def test_a_view_is_shown_in_the_picture_s_own_colours(shards):
    opened = Shards(shards)
    plain = preview_settings(opened).model_copy(
        update={"mask_share": 0.0, "appearance": AppearanceSettings(jitter_probability=0, grey_probability=0)}
    )
    sample, plan, views = sample_views(opened, 0, plain, seed=0, epoch=0)
    for view in range(plain.num_views):
        shown = view_picture(views.images[view])
        np.testing.assert_array_equal(shown, np.rint(view_levels(sample.picture, plan, view, plain.size)))


def test_boxes_and_centre_are_drawn_where_the_plan_says(shards):
    opened = Shards(shards)
    view_settings = preview_settings(opened)
    sample, plan, _ = sample_views(opened, 0, view_settings, seed=0, epoch=0)
    height, width = sample.picture.shape[:2]
    panel = picture_panel(sample, Fit(4 * width, 4 * width), plan, view_settings)
    assert panel.pixels.shape == (4 * height, 4 * width, 3)
    # view 1's box is drawn last, below only the cross
    left, top, side = (int(part[0]) * 4 for part in plan.boxes)
    x, y = (int(part * 4) for part in plan.centre)
    edge = panel.pixels[top : top + 2, left : left + 4 * side // 4]
    away = np.abs(np.arange(left, left + side) - x) > 20
    assert (edge[:, away] == VIEW_COLOURS[0]).all()
    assert box_on_panel(plan, 0, width, panel.pixels.shape) == (left, top, left + side - 1, top + side - 1)
    assert (panel.pixels[min(y, 4 * height - 1), min(x, 4 * width - 1)] == 255).all()


def test_panels_of_one_picture_share_a_size_and_name_what_they_show(shards):
    opened = Shards(shards)
    row = sample_row(opened, 0, preview_settings(opened), Fit(384, 384), seed=0, epoch=0)
    titles = [panel.title for panel in row.stored]
    assert titles == ["Picture", "Regions slic:10", "Regions slico:16", "Content density", "Labels"]
    assert len({panel.pixels.shape for panel in row.stored}) == 1
    labels = opened.sample(0).labels
    shares = sorted(((labels == i).mean(), name) for i, name in enumerate(["upper", "lower"]))[::-1]
    assert [name for _, name in row.stored[-1].legend] == [f"{name} {share * 100:.0f} %" for share, name in shares]


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((96, 72), (384, 288)),
        ((100, 50), (300, 150)),
        ((321, 481), (320, 480)),
        ((2048, 1024), (384, 192)),
        ((2048, 2), (384, 1)),
        ((384, 384), (384, 384)),
    ],
)
def test_panels_fit_their_column(size, shape):
    assert Fit(384, 384).shape(*size) == shape


def test_small_regions_of_a_large_picture_are_shown_in_a_detail():
    ids = np.arange(64)[:, None] * 128 + np.arange(128)
    ids = np.repeat(np.repeat(ids, 16, axis=0), 16, axis=1).astype(np.uint16)
    sample = Sample("k", np.zeros((1024, 2048, 3), np.uint8), {}, np.ones((256, 512), np.uint8), None, {})
    panel = regions_panel("grid", sample, ids, Fit(384, 384), (2040.0, 5.0))
    assert panel.pixels.shape == (192, 384, 3)
    assert panel.details == "8,192 regions, 16.0 px mean side; detail of 384 × 192 px at the centre"
    columns = np.flatnonzero(panel.pixels[8].any(axis=1))
    assert (np.diff(columns) == 16).all()


@pytest.mark.parametrize(("width", "height"), [(32, 32), (600, 33), (33, 600)])
def test_tiny_and_narrow_pictures_have_a_sheet_too(width, height, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(png(blobs(width, height, 1)))
    layers = [RegionLayer.from_text(f"slic:{size}") for size in range(4, 12)]
    shard_serially(tmp_path / "in", tmp_path / "out", PrepSettings(regions=layers))
    for name in ("sheet.png", "sheet.html"):
        write_preview(tmp_path / "out", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_without_a_font_of_the_system_symbols_are_spelled():
    assert spelled("β 0.5 → 2 × Straße, Bäume") == "beta 0.5 -> 2 x Strasse, Baume"


def test_outlines_are_drawn_where_regions_meet():
    ids = np.zeros((4, 6), np.uint16)
    ids[:, 3:] = 1
    drawn = outlined(np.zeros((4, 6, 3), np.uint8), ids)
    assert (drawn.any(axis=2) == (np.arange(6) == 3)).all()


def test_other_formats_and_missing_folders_are_refused(shards, tmp_path):
    with pytest.raises(InputError, match=r"a preview is a \.png or \.html file"):
        write_preview(shards, tmp_path / "sheet.pdf")
    with pytest.raises(InputError, match="no such folder"):
        write_preview(shards, tmp_path / "nowhere/sheet.png")
