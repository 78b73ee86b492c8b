"""Whether a node of a cluster has the packages of the driver: two versions must never make shards of one folder."""

from __future__ import annotations

import platform
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from vice.data_specs.errors import WorkError
from vice.data_specs.fingerprint import difference
from vice.data_specs.shard_format import PrepSettings
from vice.pipeline.prep.plan import implementation

_PACKAGES = ("numba", "vice-dense")
"""Those that `implementation` does not name."""


@cache
def package_versions() -> dict[str, str]:
    """Versions of everything in this process that makes bytes, by name."""
    packages = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | packages | implementation(PrepSettings())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def check_versions(driver: dict[str, str]) -> None:
    """Refuse to work on a node with other versions than the driver's.

    Args:
        driver: `package_versions` of the driver.

    Raises:
        WorkError: some differ; names the node and them.
    """
    changes = difference(driver, package_versions())
    if changes:
        what = f"a node of the cluster has other versions than this machine ({'; '.join(changes)})"
        hint = "install the same versions there, or remove the node; then run the same command again"
        raise WorkError(what, where=socket.gethostname(), hint=hint)
