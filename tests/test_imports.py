"""Who may import whom, read from the sources; and what an import brings along, asked of a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

MAY_IMPORT = {
    "data_specs": {"data_specs"},
    "pipeline": {"data_specs", "pipeline"},
    "train": {"data_specs", "pipeline.loader", "pipeline.region_vectors", "pipeline.shards", "train"},
    # of sharding, evaluation takes the reading of any picture alone
    "evaluate": {
        *("data_specs", "pipeline.loader", "pipeline.region_vectors", "pipeline.samples", "pipeline.shards"),
        "pipeline.storage",
        *("train", "evaluate"),
        *(f"pipeline.prep.{name}" for name in ("decoding", "geometry", "headers", "inputs", "rejection", "sample")),
        "pipeline.prep.tar_members",
    },
}
SPECS_MAY_USE = {"numpy", "pyarrow", "pydantic", "yaml", "vice"} | set(sys.stdlib_module_names)


def modules():
    return [path for package in MAY_IMPORT for path in sorted((PROJECT / package).rglob("*.py"))]


def imported(path):
    """Full names that a module imports, at any depth of its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_go_one_way_and_never_to_a_command(path):
    package = path.relative_to(PROJECT).parts[0]
    allowed = tuple(f"vice.{name}" for name in MAY_IMPORT[package])
    for name in imported(path):
        assert name.split(".")[0] == "vice" or package != "data_specs" or name.split(".")[0] in SPECS_MAY_USE, name
        if name.split(".")[0] == "vice":
            assert any(name == prefix or name.startswith(prefix + ".") for prefix in allowed), name
            assert not name.endswith(".cli"), name
        assert name.split(".")[0] not in MAY_IMPORT, f"{name} must be imported as vice.{name}"


def names(package):
    """Every module below a package, as it is imported."""
    paths = sorted((PROJECT / package).rglob("*.py"))
    dotted = [".".join(("vice", *path.relative_to(PROJECT).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in dotted]


@pytest.mark.parametrize(
    ("packages", "absent"),
    [
        (["data_specs"], ["torch", "ray", "nvidia.dali", "cv2"]),
        (["pipeline/prep", "pipeline/scenes"], ["torch", "webdataset", "nvidia.dali"]),
        (["train", "evaluate"], ["ray", "nvidia.dali"]),
    ],
    ids=["specs", "no torch in sharding", "no Ray in training"],
)
def test_what_an_import_brings_along(packages, absent):
    imports = [f"import {name}" for package in packages for name in names(package)]
    check = f"import sys; sys.exit(str([name for name in {absent!r} if name in sys.modules] or '') or 0)"
    result = subprocess.run([sys.executable, "-c", "\n".join([*imports, check])], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_only_a_dali_loader_needs_dali():
    loader = [name for name in names("pipeline/loader") if "dali" not in name]
    code = "\n".join([f"import {name}" for name in loader] + ["import sys; sys.exit('nvidia.dali' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_pipeline_package_itself_brings_nothing():
    assert (PROJECT / "pipeline" / "__init__.py").read_text() == ""
