"""A user's encoder is refused in one line before the work, or ends it in one line, however it misbehaves."""

import itertools

import numpy as np
import pytest
import torch
from sharding import blobs

from vice.data_specs.errors import InputError, WorkError
from vice.evaluate.encoders.checked import CheckedEncoder
from vice.evaluate.encoders.opening import open_encoder
from vice.evaluate.encoders.protocol import num_cells

COUNT = itertools.count(1)
PICTURES = np.stack([blobs(24, 16, seed=1), blobs(24, 16, seed=2)])


class Own:
    """Mean colour of cells of eight pixels, changed by what a test sets."""

    stride = 8

    def __init__(self, change=lambda maps, pictures: maps, **attributes):
        self._change = change
        for name, value in attributes.items():
            setattr(self, name, value)

    def embed(self, pictures):
        rows, columns = num_cells(*pictures.shape[1:3], 8)
        mean = pictures.mean(axis=(1, 2), dtype=np.float32)
        return self._change(np.tile(mean[:, :, None, None], (1, 1, rows, columns)), pictures)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Own(lambda maps, _: maps.astype(np.float64)), r"gave ndarray float64 .*a float32 array \[2, d, 5, 7\]"),
        (Own(lambda maps, _: torch.from_numpy(maps)), "gave Tensor torch.float32"),
        (Own(lambda maps, _: maps[0]), r"gave ndarray float32 \(3, 5, 7\)"),
        (Own(lambda maps, _: maps[:1]), r"gave ndarray float32 \(1, 3, 5, 7\)"),
        (Own(lambda maps, _: maps[:, :0]), "0 values per cell"),
        (Own(lambda maps, _: np.array(1, np.float32)), r"gave ndarray float32 \(\)"),
        (Own(lambda maps, _: None), "gave NoneType"),
        (Own(lambda maps, _: maps * np.float32(np.nan)), "not finite"),
        (Own(lambda maps, _: maps * np.float32(next(COUNT))), "two different results"),
        (Own(stride=8.0), "its stride is 8.0: .*a whole number"),
        (Own(stride=0), "its stride is 0"),
        (Own(name="a/b"), "its name is 'a/b'"),
        (Own(name="two\nlines"), "its name is"),
        (Own(name=3), "its name is 3"),
        (object(), "no encoder"),
    ],
)
def test_a_wrong_encoder_is_refused_in_one_line(encoder, message):
    with pytest.raises(InputError, match=message) as caught:
        CheckedEncoder(encoder, "own.py:it")
    assert "\n" not in caught.value.line() and "own.py:it" in caught.value.line()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps, pictures: maps[:, : 1 + (pictures.shape[1] == 40)], "1 values per cell .*and 2 before"),
        (lambda maps, pictures: maps / np.float32(pictures.shape[1] == 40), "not finite for pictures of 16 × 24"),
        (lambda maps, pictures: maps if pictures.shape[1] == 40 else 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_what_goes_wrong_with_some_pictures_only_ends_the_work_in_one_line(change, message):
    with np.errstate(all="ignore"):
        encoder = CheckedEncoder(Own(change), "own.py:it")
        with pytest.raises(WorkError, match=message):
            encoder.embed(PICTURES)


def test_maps_are_contiguous_and_neither_input_nor_output_is_shared():
    kept = []

    def change(maps, pictures):
        pictures[:] = 0
        kept.append(np.asfortranarray(maps[:, ::-1]))
        return kept[-1]

    encoder = CheckedEncoder(Own(change, stride=np.int64(8), name="my network, v2"), "own.py:it")
    before = PICTURES.copy()
    maps = encoder.embed(PICTURES)
    np.testing.assert_array_equal(PICTURES, before)
    np.testing.assert_array_equal(maps, kept[-1])
    kept[-1][:] = 0
    assert maps.flags.c_contiguous and maps.any()
    assert (type(encoder.stride), encoder.stride, encoder.name, encoder.dim) == (int, 8, "my network, v2", 3)


SOURCE = """
import json, pathlib
import numpy as np

class Network:
    stride = 8

    def __init__(self):
        told = json.loads((pathlib.Path(__file__).parent / "weights.json").read_text())
        self.weight = np.float32(told["weight"])
        if told.get("fingerprint"):
            self.fingerprint = told["fingerprint"]

    def embed(self, pictures):
        n, h, w, _ = pictures.shape
        return np.full((n, 1, -(-h // 8), -(-w // 8)), self.weight)
"""


def test_other_weights_behind_the_same_source_file_are_another_encoder(tmp_path):
    """By what it makes of fixed pictures; by its own fingerprint where these pictures do not show the difference."""
    (tmp_path / "own.py").write_text(SOURCE)
    found = []
    for weights in ('{"weight": 1}', '{"weight": 2}', '{"weight": 1, "fingerprint": "a"}', '{"weight": 1}'):
        (tmp_path / "weights.json").write_text(weights)
        found.append(open_encoder(f"{tmp_path}/own.py:Network", device=torch.device("cpu")).ref.sha256)
    assert len(set(found)) == 3 and found[0] == found[3]


def test_results_have_one_row_per_name():
    """Its own vectors may have any name: `embed` compares nothing."""
    source = "vice.evaluate.encoders.raw:ColourEncoder"
    with pytest.raises(InputError, match=f"'colour' is that of a baseline: {source}"):
        open_encoder(source, device=torch.device("cpu"))
    assert open_encoder(source, device=torch.device("cpu"), untrained=False).encoder.name == "colour"
