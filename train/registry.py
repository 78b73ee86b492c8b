"""Assignment methods and loss terms by name. Each is one file that registers itself; nothing else lists them.

Such a file holds the term's settings (its section of the configuration), its checks and its advice. It is imported with
the configuration, before torch: whatever needs torch is imported when it runs.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from vice.data_specs.errors import InputError

Kind = TypeVar("Kind")


class Registry(Generic[Kind]):
    """Classes by the name that a configuration calls them.

    Args:
        what: what they are, as messages say it.
        folder: the package whose modules register themselves.
    """

    def __init__(self, what: str, folder: str):
        self._what, self._folder = what, folder
        self._kinds: dict[str, type[Kind]] = {}

    def register(self, name: str) -> Callable[[type[Kind]], type[Kind]]:
        """Decorate a class so that configurations find it by this name."""

        def add(kind: type[Kind]) -> type[Kind]:
            if name in self._kinds:
                raise ValueError(f"two classes are registered as {self._what} {name!r}")
            self._kinds[name] = kind
            return kind

        return add

    def load(self) -> None:
        """Import every module of the folder, so that all of them are registered."""
        package = importlib.import_module(self._folder)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._folder}.{module.name}")

    def __getitem__(self, name: str) -> type[Kind]:
        if name not in self._kinds:
            raise InputError(f"no {self._what} is called {name!r}", hint=f"choose from {', '.join(self)}")
        return self._kinds[name]

    def __iter__(self) -> Iterator[str]:
        # in the order of names, whichever module was imported first
        return iter(sorted(self._kinds))

    def sections(self) -> dict[str, tuple[Any, Any]]:
        """The settings of every class as fields of a configuration: name to (type, default)."""
        return {name: (kind.Settings, kind.Settings()) for name, kind in sorted(self._kinds.items())}
