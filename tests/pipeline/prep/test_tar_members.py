"""Every member of a tar becomes an input or a rejection, whatever the archive looks like."""

import tarfile

import pyarrow.parquet as pq
import pytest
from archives import Ranges, write_index, write_tar
from hypothesis import given, settings
from hypothesis import strategies as st
from sharding import blobs, jpeg, shard_serially

from vice.data_specs.dataset import DatasetSpec, load_dataset
from vice.data_specs.shard_format import MANIFEST_FILE, REJECTED_FILE, PrepSettings
from vice.pipeline.prep.inputs import find_inputs
from vice.pipeline.prep.tar_headers import read_headers
from vice.pipeline.prep.tar_members import REPEATED_NAME
from vice.pipeline.prep.verify import verify_shards
from vice.pipeline.storage.opening import open_storage

PLAIN = load_dataset("image_folder")
LEFT = DatasetSpec(name="left", title="x", pictures=r"^(?P<id>[^.]+)\.left\.jpg$")


def sharded(tar, out, spec=PLAIN):
    """Sources of the samples, and reasons by source of the rejections, by their names in the tar."""
    shard_serially(tar, out, PrepSettings(regions=[]), spec)
    verify_shards(out)
    sources = pq.read_table(out / MANIFEST_FILE)["source"].to_pylist()
    rejected = pq.read_table(out / REJECTED_FILE).to_pylist()
    start = len(tar.name) + 1
    return sorted(one[start:] for one in sources), {one["source"][start:]: one["reason"] for one in rejected}


@pytest.fixture(scope="module")
def pictures():
    return [jpeg(blobs(48, 40, number)) for number in range(4)]


def test_names_with_dots_are_pictures_of_their_own(tmp_path, pictures):
    names = [f"frame.{number:04}.jpg" for number in range(4)]
    names += [f"Screenshot 2024-01-01 10.30.{number:02}.jpg" for number in range(2)]
    tar = write_tar(tmp_path / "x.tar", [(name, pictures[0]) for name in names])
    assert sharded(tar, tmp_path / "out") == (sorted(names), {})


def test_two_pictures_of_a_key_are_two_inputs_and_the_spec_says_which_it_wants(tmp_path, pictures):
    members = [("k.left.jpg", pictures[0]), ("k.right.jpg", pictures[1]), ("k.json", b"{}")]
    tar = write_tar(tmp_path / "x.tar", members)
    assert sharded(tar, tmp_path / "both") == (["k.left.jpg", "k.right.jpg"], {})
    reason = "its path fits no picture of dataset 'left'"
    assert sharded(tar, tmp_path / "left", LEFT) == (["k.left.jpg"], {"k.right.jpg": reason})


def test_a_name_that_comes_twice_is_the_last_one_and_a_rejection(tmp_path, pictures):
    members = [("s1.jpg", b"no picture"), ("s1.txt", b"a"), ("s2.jpg", pictures[1]), ("s1.jpg", pictures[2])]
    tar = write_tar(tmp_path / "x.tar", members)
    assert sharded(tar, tmp_path / "out") == (["s1.jpg", "s2.jpg"], {"s1.jpg": REPEATED_NAME})


def test_links_are_read_as_what_they_lead_to_or_rejected(tmp_path, pictures):
    hard, soft = tarfile.LNKTYPE, tarfile.SYMTYPE
    members = [
        ("before.jpg", soft, "deep/b.jpg"),
        ("./deep/b.jpg", pictures[0]),
        ("hard.jpg", hard, "./deep/b.jpg"),
        ("deep/soft.jpg", soft, "b.jpg"),
        ("deep/er/chain.jpg", soft, "../soft.jpg"),
        ("gone.jpg", soft, "/etc/passwd"),
        ("self.jpg", soft, "self.jpg"),
        ("round.jpg", soft, "about.jpg"),
        ("about.jpg", soft, "round.jpg"),
        ("folder.jpg", soft, "deep"),
        ("pipe.jpg", tarfile.FIFOTYPE, ""),
    ]
    found, rejected = sharded(write_tar(tmp_path / "x.tar", members), tmp_path / "out")
    assert found == sorted(["before.jpg", "deep/b.jpg", "hard.jpg", "deep/soft.jpg", "deep/er/chain.jpg"])
    assert rejected.keys() == {"gone.jpg", "self.jpg", "round.jpg", "about.jpg", "folder.jpg", "pipe.jpg"}
    assert rejected["gone.jpg"] == "is a link to /etc/passwd, which the tar does not hold"
    assert rejected["pipe.jpg"] == "is not a regular file"


def test_a_sparse_member_is_rejected_by_name(tmp_path):
    tar = tmp_path / "x.tar"
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        entry = tarfile.TarInfo("holes.jpg")
        entry.type = tarfile.GNUTYPE_SPARSE
        archive.addfile(entry)
    inputs = find_inputs(tar, PLAIN)
    assert [inputs[number].problem for number in range(len(inputs))] == [
        "is stored as a sparse file: write the tar without --sparse"
    ]


part = st.text("ab.", min_size=1, max_size=4).filter(lambda name: name.strip("."))
name = st.builds(
    lambda folders, file, suffix: "/".join([*folders, file]) + suffix,
    st.lists(part, max_size=2),
    part,
    st.sampled_from([".jpg", ".png", ".json", ".JPG", ""]),
)
kinds = [tarfile.REGTYPE, tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
archives = st.lists(st.tuples(name, st.sampled_from(kinds), name), min_size=1, max_size=12)
formats = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])


@settings(max_examples=300, deadline=None)
@given(archives, formats)
def test_inputs_are_all_members_but_folders_hidden_ones_and_what_describes_a_picture(tmp_path_factory, drawn, form):
    members = [(one, b"x") if kind == tarfile.REGTYPE else (one, kind, target) for one, kind, target in drawn]
    tar = write_tar(tmp_path_factory.mktemp("tar") / "x.tar", members, form)
    visible = [
        (one.removeprefix("./"), kind)
        for one, kind, _ in drawn
        if kind != tarfile.DIRTYPE and not any(part[0] == "." and part.strip(".") for part in one.split("/"))
    ]

    def key(path):
        folder, _, file = path.rpartition("/")
        return folder, file.split(".")[0]

    def is_picture(path):
        return path.rpartition(".")[2].lower() in {"jpg", "png"}

    described = {key(path) for path, _ in visible if is_picture(path)}
    wanted = sorted(path for path, _ in visible if is_picture(path) or key(path) not in described)
    inputs = find_inputs(tar, PLAIN) if wanted else []
    found = [inputs[number].path for number in range(len(inputs))]
    assert sorted(found) == [f"x.tar/{path}" for path in wanted]
    on_disk = []
    read_headers(open_storage(tar.parent), tar.name, 0, on_disk)
    assert Ranges(tar).headers() == on_disk
    write_index(tar)
    indexed = find_inputs(tar, PLAIN) if wanted else []
    assert [indexed[number]._replace(header_size=0) for number in range(len(indexed))] == [*inputs]
