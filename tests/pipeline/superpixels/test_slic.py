"""SLIC against a plain reference of the same definition; the same bytes whatever runs beside it."""

import hashlib
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sharding import blobs

from vice.pipeline.superpixels.kernels import first_centres, row_sums
from vice.pipeline.superpixels.slic import slic


def reference(
    lab: np.ndarray, rows: int, columns: int, *, ruler: float, iterations: int, adaptive: bool, row_step: int
) -> np.ndarray:
    """The definition, centre by centre and pixel by pixel, in float32."""
    height, width = lab.shape[:2]
    step = math.sqrt(height * width / (rows * columns))
    reach = max(1, math.ceil(step))
    centres = first_centres(lab, rows, columns)
    colours = np.full(len(centres), 1 / 100 if adaptive else 1, np.float32)
    weight = np.float32(1 / step**2 if adaptive else (ruler / step) ** 2)
    labels = (np.arange(height)[:, None] * rows // height * columns + np.arange(width) * columns // width).astype(int)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pixels = (lab * np.array([100 / 255, 1, 1])).astype(np.float32)
    seen, widest = np.zeros((height, width), bool), np.ones(len(centres), np.float32)
    for iteration in range(iterations):
        if iteration:
            for centre in np.unique(labels[seen]):
                own = (labels == centre) & seen
                centres[centre, 0], centres[centre, 1] = np.nonzero(own)[0].mean(), np.nonzero(own)[1].mean()
                centres[centre, 2:] = lab[own].mean(axis=0, dtype=np.float64) * np.array([100 / 255, 1, 1])
                if adaptive:
                    d = pixels[own] - centres[centre, 2:]
                    widest[centre] = max(
                        widest[centre], (d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1] + d[:, 2] * d[:, 2]).max()
                    )
            if adaptive:
                colours = np.float32(1) / widest
        last = iteration == iterations - 1
        seen = np.broadcast_to(((y[:, :1] % row_step) == iteration % row_step) | last, (height, width))
        nearest = np.where(seen, np.float32(np.inf), np.float32(-np.inf))
        for centre, (row, column, c0, c1, c2) in enumerate(centres):
            top, left = max(0, int(row) - reach + 1), max(0, int(column) - reach + 1)
            right = left + -(-(int(column) + reach + 1 - left) // 8) * 8
            window = np.s_[top : int(row) + reach + 1, left:right]
            d0, d1, d2 = (pixels[window][..., c] - value for c, value in enumerate((c0, c1, c2)))
            dy, dx = y[window] - row, x[window] - column
            distance = (d0 * d0 + d1 * d1 + d2 * d2) * colours[centre] + (dx * dx * weight + dy * dy * weight)
            nearer = distance < nearest[window]
            nearest[window][nearer] = distance[nearer]
            labels[window][nearer] = centre
    return labels


def noise(height: int, width: int, key: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=key)).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("row_step", [1, 2])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("shape", [(48, 64, 4, 5), (31, 77, 3, 8), (9, 9, 9, 9), (5, 40, 1, 2)])
def test_labels_are_those_of_the_definition(shape, adaptive, row_step):
    height, width, rows, columns = shape
    for picture in (noise(height, width), blobs(width, height, 1)):
        options = {"ruler": 10.0, "iterations": 5, "adaptive": adaptive, "row_step": row_step}
        found = slic(picture, row_sums(picture), rows, columns, **options)
        np.testing.assert_array_equal(found, reference(picture, rows, columns, **options))


def test_first_centres_move_to_where_the_picture_changes_least():
    picture = np.zeros((30, 30, 3), np.uint8)
    picture[:, 15:] = 200  # a border through the middle column of the only cell
    centre = first_centres(picture, 1, 1)[0]
    assert centre.tolist() == [14, 16, np.float32(200 / 2.55), 200, 200]
    flat = first_centres(np.full((30, 30, 3), 7, np.uint8), 2, 3)
    assert flat[:, :2].tolist() == [[7, 5], [7, 15], [7, 25], [22, 5], [22, 15], [22, 25]]
    assert (flat[:, 3:] == 7).all()


def test_a_strong_border_is_kept_and_the_ruler_makes_regions_compact():
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, 43:] = (250, 120, 30)
    free, ruled = (slic(picture, row_sums(picture), 3, 4, ruler=ruler) for ruler in (10.0, 10_000.0))
    assert not set(np.unique(free[:, :43])) & set(np.unique(free[:, 43:]))
    assert set(np.unique(ruled[:, :43])) & set(np.unique(ruled[:, 43:]))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 9))
def test_every_pixel_has_a_label_of_the_grid(height, width, rows, columns, adaptive, key):
    rows, columns = min(rows, height), min(columns, width)
    picture = noise(height, width, key)
    labels = slic(picture, row_sums(picture), rows, columns, iterations=3, adaptive=adaptive)
    assert labels.shape == (height, width) and labels.dtype == np.int32
    assert labels.min() >= 0 and labels.max() < rows * columns


def test_the_same_bytes_in_many_threads_at_once():
    picture = blobs(200, 150, 4)
    sums = row_sums(picture)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: slic(picture, sums, 8, 10).tobytes(), range(24)))
    assert len(set(found)) == 1


@pytest.mark.parametrize("environment", [{"NUMBA_NUM_THREADS": "1"}, {"NUMBA_CPU_NAME": "generic"}])
def test_the_same_bytes_on_other_processors_and_numbers_of_threads(environment, tmp_path):
    """A processor without AVX: vectors of four take fewer pixels at once and change none."""
    program = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from sharding import blobs\n"
        "from vice.pipeline.superpixels.kernels import row_sums\n"
        "from vice.pipeline.superpixels.slic import slic\n"
        "picture = blobs(120, 90, 4)\n"
        "print(hashlib.sha256(slic(picture, row_sums(picture), 5, 6).tobytes()).hexdigest())"
    )
    picture = blobs(120, 90, 4)
    expected = hashlib.sha256(slic(picture, row_sums(picture), 5, 6).tobytes()).hexdigest()
    there = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), **environment}
    helpers = next(path for path in sys.path if path.endswith("tests"))
    done = subprocess.run([sys.executable, "-c", program, helpers], capture_output=True, text=True, env=there)
    assert done.stdout.strip() == expected, done.stderr
