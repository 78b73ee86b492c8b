"""Commands as a user can paste them into a shell."""

from __future__ import annotations

import shlex


def command(*words: object) -> str:
    """A command of these words, quoted where a shell would take them apart."""
    return shlex.join(str(word) for word in words)
