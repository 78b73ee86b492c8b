"""The record of a run: what is in its files, on a terminal, and in the log of a job without one."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vice.train.config import TrainConfig
from vice.train.records.run_log import RunLog, fitted, status

LINE = {
    "loss": 4.7312,
    "loss/swapped_prediction": 4.7312,
    "ln_k": 4.852,
    "concept_entropy": 4.55,
    "concepts_used": 94.6,
    "dead_concepts": 12,
    "embedding_spread": 0.312,
    "effective_rank": 41.5,
    "masked_ratio": 0.1234,
    "regions_per_view": 131.4,
    "regions_per_picture": 131.4,
    "pictures_without_regions": 0.0,
    "images_per_second": 512.4,
    "views_per_second": 2562.0,
    "data_wait": 0.031,
    "memory_gib": 13.44,
    "learning_rate": 0.0123456,
    "views_seen": 640,
}
CONFIG = TrainConfig(name="log", assignment={"freeze_concepts_steps": 0})


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def open_log(folder, clock, *, first_step=0, terminal=False, width=100):
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=width, color_system=None)
    return RunLog(folder, CONFIG, 1000, first_step, console=console, clock=clock), output


def written(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_job_without_a_terminal_prints_a_line_a_minute_and_at_the_end(tmp_path, clock):
    log, output = open_log(tmp_path, clock)
    with log:
        for step in range(10, 1001, 10):
            clock.now += 10
            log.advance()
            log.write(step, LINE)
    lines = output.getvalue().splitlines()
    assert len(lines) == 1000 // 60 + 2
    assert lines[0].startswith("step 10/1000 (0:16:30 left) | loss 4.731 (ln K 4.85)  concepts 95 of 128, 12 dead")
    assert lines[-1].startswith("step 1000/1000 (0:00:00 left)")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_terminal_shows_a_bar_and_rows_that_fit_with_every_number_whole(tmp_path, clock, width):
    log, output = open_log(tmp_path, clock, terminal=True, width=width)
    with log:
        clock.now = 10
        for _ in range(10):
            log.advance()
        log.write(10, LINE)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, shown)) <= width
    for part in ("10/1000", "0:16:30 left", "loss 4.731 (ln K 4.85)", "spread 0.31", "waiting 3%", "memory 13.4 GiB"):
        assert any(part in row for row in shown), part


def test_rows_are_broken_between_numbers_where_the_terminal_is_narrow():
    rows = ["loss 1  concepts 3 of 4, 1 dead", "masked 2%  waiting 3%"]
    assert fitted(rows, 40) == rows
    assert fitted(rows, 26) == ["loss 1", "concepts 3 of 4, 1 dead", "masked 2%  waiting 3%"]
    assert len(fitted(status(LINE), 78)) == 3


def test_rows_of_large_numbers_fit_into_100_columns():
    large = {"dead_concepts": 1234, "concepts_used": 1234, "embedding_spread": 1.2e-5, "learning_rate": 1.2e-5}
    large |= {"regions_per_view": 4096, "images_per_second": 12345.6, "views_per_second": 56789.1, "memory_gib": 123.4}
    assert all(len(row) <= 98 for row in status({**LINE, **large}))
    assert "spread -" in status({**LINE, "embedding_spread": None})[0]


def test_time_left_follows_the_pace_of_the_last_lines(tmp_path, clock):
    log, _ = open_log(tmp_path, clock, first_step=100)
    with log:
        clock.now = 100  # a slow beginning
        log.write(110, LINE)
        for step in range(120, 320, 10):
            clock.now += 10
            log.write(step, LINE)
    lines = written(tmp_path)
    assert lines[0]["eta_seconds"] == pytest.approx(10 * 890)
    assert lines[-1]["eta_seconds"] == pytest.approx(1 * 690)


def test_metrics_and_warnings_reach_file_board_and_reader_once(tmp_path, clock):
    log, output = open_log(tmp_path, clock)
    alike = {**LINE, "embedding_spread": 0.003}
    with log:
        for step in range(50, 201, 10):
            log.write(step, alike)
    warned = [line for line in written(tmp_path) if "warning" in line]
    assert len(warned) == 1 and "spread 0.003" in warned[0]["warning"]
    told = [line for line in output.getvalue().splitlines() if line.startswith("warning at step")]
    assert told == [f"warning at step {warned[0]['step']}: {warned[0]['warning']}"]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(board.Tags()["scalars"]) == {*LINE, "eta_seconds"}
    assert board.Tags()["tensors"] == ["warning/text_summary"]


def test_a_resumed_run_drops_later_lines_and_does_not_warn_again(tmp_path, clock):
    alike = {**LINE, "embedding_spread": 0.003}
    log, _ = open_log(tmp_path, clock)
    with log:
        for step in range(50, 201, 10):
            log.write(step, alike)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 210, "lo')
    log, output = open_log(tmp_path, clock, first_step=100)
    with log:
        for step in range(110, 301, 10):
            log.write(step, alike)
    assert [line["step"] for line in written(tmp_path)] == list(range(50, 301, 10))
    assert "warning" not in output.getvalue()


def test_a_picture_reaches_file_and_board(tmp_path, clock):
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    log, _ = open_log(tmp_path, clock)
    with log:
        log.add_picture(7, picture)
    with Image.open(tmp_path / "pictures" / "step-00000007.png") as file:
        assert np.array_equal(np.asarray(file), picture)
    assert EventAccumulator(str(tmp_path / "tensorboard")).Reload().Tags()["images"] == ["regions"]
