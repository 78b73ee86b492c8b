"""Files are fetched before their turn: the same bytes and rejections, in bounded memory, many requests at once."""

import secrets
import threading
import time

import pytest
from archives import write_index, write_tar
from sharding import bytes_of, shard_serially

from vice.data_specs.dataset import load_dataset
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep import prefetch
from vice.pipeline.prep.job import shard_dataset
from vice.pipeline.prep.plan import KeyedInput, make_plan
from vice.pipeline.prep.prefetch import with_files_ahead
from vice.pipeline.prep.sample import Recipe
from vice.pipeline.prep.tars import Input

PLAIN = load_dataset("image_folder")


class Slow:
    """A source whose files take a while, with what was read of it."""

    def __init__(self, sizes, seconds=0.0):
        self.sizes, self.seconds, self.read = sizes, seconds, []
        self.lock, self.running, self.most = threading.Lock(), 0, 0

    def chunks(self, name):
        with self.lock:
            self.read.append(name)
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self.lock:
            self.running -= 1
        if self.sizes[name] is None:
            raise OSError("gone")
        yield from (bytes(min(1000, self.sizes[name] - start)) for start in range(0, self.sizes[name], 1000))


def ahead(source):
    inputs = [KeyedInput(Input(name), name) for name in source.sizes]
    return with_files_ahead(inputs, Recipe(source, PLAIN, PrepSettings()))


def test_several_are_fetched_at_once_and_handed_out_in_order():
    source = Slow({f"{number}.jpg": number for number in range(20)}, 0.005)
    for number, (keyed, recipe) in enumerate(ahead(source)):
        assert keyed.key == f"{number}.jpg" and b"".join(recipe.source.chunks(keyed.key)) == bytes(number)
        assert len(source.read) <= number + 9
    assert sorted(source.read) == sorted(source.sizes) and 1 < source.most <= 4


def test_what_waits_takes_bounded_memory(monkeypatch):
    monkeypatch.setattr(prefetch, "_LARGEST", 3000)
    monkeypatch.setattr(prefetch, "_BUDGET", 12_000)
    source = Slow({f"{number}.jpg": 2500 if number != 5 else 10_000_000 for number in range(20)})
    for number, (keyed, recipe) in enumerate(ahead(source)):
        time.sleep(0.002)
        assert len(source.read) <= number + 1 + 4
        assert len(b"".join(recipe.source.chunks(keyed.key))) == source.sizes[keyed.key]
    assert source.read.count("5.jpg") == 2


def test_what_cannot_be_fetched_is_read_when_it_is_its_turn():
    source = Slow({"a.jpg": None, "b.jpg": 5})
    for keyed, recipe in ahead(source):
        if keyed.key == "a.jpg":
            with pytest.raises(OSError, match="gone"):
                next(recipe.source.chunks("a.jpg"))
            source.sizes["a.jpg"] = 3
        assert b"".join(recipe.source.chunks(keyed.key)) == bytes(source.sizes[keyed.key])
        assert b"".join(recipe.source.chunks("b.jpg")) == bytes(5)


def test_samples_of_a_store_are_those_of_a_disk(s3, source, spec, settings, shards, tmp_path, monkeypatch):
    """Pictures and labels; and of each one request alone."""
    remote = s3.upload(source, secrets.token_hex(4))
    fetched, fetch = [], prefetch._fetch

    def counting(keyed, recipe):
        fetched.append(fetch(keyed, recipe))
        return fetched[-1]

    monkeypatch.setattr(prefetch, "_fetch", counting)
    shard_dataset(remote, tmp_path / "out", settings, spec, workers=0)
    assert bytes_of(tmp_path / "out") == bytes_of(shards)
    assert len(fetched) == 40 and not any(fetched), "what was fetched is handed out"


@pytest.mark.parametrize("indexed", [False, True])
def test_members_of_tars_too(s3, source, tmp_path, indexed):
    files = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix != ".txt")
    write_tar(tmp_path / "x.tar", [(path.name, path.read_bytes()) for path in files if path.parent.name == "images"])
    settings = PrepSettings(regions=[], samples_per_shard=16)
    shard_serially(tmp_path / "x.tar", tmp_path / "disk", settings)
    if indexed:
        write_index(tmp_path / "x.tar")
    remote = s3.upload(tmp_path, secrets.token_hex(4))
    shard_dataset(f"{remote}/x.tar", tmp_path / "store", settings, PLAIN, workers=0)
    assert bytes_of(tmp_path / "store") == bytes_of(tmp_path / "disk")
    plan = make_plan(f"{remote}/x.tar", settings, PLAIN)
    for (one, _), recipe in with_files_ahead(plan.inputs_of(0), plan.recipe):
        assert (
            one.picture and recipe.source._files[0].data[512 * indexed :] == (source / "images" / one.name).read_bytes()
        )
