"""What a complete OUT holds, told and drawn."""

import json

import cv2
import numpy as np
import pytest

from vice.data_specs.errors import InputError
from vice.pipeline.prep.info import facts, facts_json, summary
from vice.pipeline.prep.preview import outlined, panels, write_preview
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


def test_the_summary_names_reasons_and_what_to_do_next(shards):
    lines = summary(shards).splitlines()
    assert "36 of 40 inputs in 5 shards" in lines[0]
    assert sum(line.startswith("rejected") for line in lines) == 3
    assert lines[-1].startswith("next       vice-prep preview ")


def test_a_png_shows_a_row_per_sample(shards, tmp_path):
    write_preview(shards, tmp_path / "sheet.png", num_samples=3)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] == 8 + 5 * 408
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_an_html_page_holds_all_panels(shards, tmp_path):
    write_preview(shards, tmp_path / "sheet.html", num_samples=2)
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * 5
    assert "http" not in page and "36 of 40 inputs" in page


def test_panels_keep_their_picture_s_size_and_name_what_they_show(shards):
    drawn = list(panels(Shards(shards), 0))
    captions = [panel.caption.split(",")[0] for panel in drawn]
    assert captions == ["picture", "slic10", "slico16", "content density", "labels"]
    assert len({panel.pixels.shape for panel in drawn}) == 1


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
