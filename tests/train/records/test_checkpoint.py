"""Checkpoints on a full disk, and a damaged last one: what stays, and the one line that says how to go on."""

import subprocess
import sys

import pytest
import torch

from vice.data_specs.errors import InputError
from vice.train.records.checkpoint import read_checkpoint, save_checkpoint

ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from vice.train.records.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save_checkpoint(Path(sys.argv[1]), {"step": 4, "weights": torch.zeros(1_000_000)}, keep=1)
"""


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(tmp_path):
    save_checkpoint(tmp_path, {"step": 2, "weights": torch.ones(3)}, keep=1)
    done = subprocess.run([sys.executable, "-c", ON_A_FULL_DISK, tmp_path], capture_output=True, text=True)
    folder = tmp_path / "checkpoints"
    told = f"cannot write the checkpoint: {folder / 'step-00000004.pt'} (File too large); make room there"
    assert done.stderr.splitlines()[-1].startswith(f"vice.data_specs.errors.WorkError: {told}"), done.stderr
    assert done.stderr.endswith("launch again, which goes on from step 2\n")
    assert sorted(path.name for path in folder.iterdir()) == ["last.pt", "step-00000002.pt"]
    assert torch.equal(read_checkpoint(folder / "last.pt").state["weights"], torch.ones(3))


def test_a_damaged_last_checkpoint_names_the_newest_that_can_be_read(tmp_path):
    paths = [save_checkpoint(tmp_path, {"step": step, "weights": torch.ones(99)}, keep=3) for step in (2, 4, 6)]
    last = tmp_path / "checkpoints" / "last.pt"
    # both names of the last one's bytes are damaged
    last.write_bytes(last.read_bytes()[:700])
    command = f"ln -f {paths[1]} {last}"
    with pytest.raises(
        InputError, match=f"not readable.*step-00000004.pt is the newest.*go on from it with: {command}"
    ):
        read_checkpoint(last)
    subprocess.run(command, shell=True, check=True)
    assert read_checkpoint(last).state["step"] == 4
    with pytest.raises(InputError, match=r"step-00000004\.pt of the same folder"):
        read_checkpoint(paths[2])
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="start a new run"):
        read_checkpoint(last)


def test_a_single_changed_bit_is_found(tmp_path):
    path = save_checkpoint(tmp_path, {"step": 2, "weights": torch.ones(9999)}, keep=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(9999))  # torch does not notice
    with pytest.raises(InputError, match="not readable as a checkpoint"):
        read_checkpoint(path)
