"""The failures a user can cause: one line that says what, where, and what to do next."""

from __future__ import annotations


class ViceError(Exception):
    """A known failure, told in one line.

    Args:
        what: what is wrong, in plain words.
        where: the file, folder, shard, key or setting it was found in.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = None, hint: str | None = None):
        self.what, self.where, self.hint = what, where, hint
        super().__init__(self.line())

    def line(self) -> str:
        """The message as one line, whatever line breaks its parts held."""
        parts = self.what if self.where is None else f"{self.what}: {self.where}"
        return " ".join((parts if self.hint is None else f"{parts}; {self.hint}").split())

    def __reduce__(self):
        # Ray and multiprocessing pickle exceptions by their positional arguments; ours are keywords.
        return _rebuild, (type(self), self.what, self.where, self.hint)


class InputError(ViceError):
    """Bad arguments or bad input: nothing was started, nothing was written (exit code 2)."""

    exit_code = 2


class WorkError(ViceError):
    """Work that began and could not be finished (exit code 1)."""

    exit_code = 1


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an error is, or came from, Ctrl-C or SIGTERM: compiled code turns KeyboardInterrupt into others."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _rebuild(kind: type[ViceError], what: str, where: object, hint: str | None) -> ViceError:
    return kind(what, where=where, hint=hint)
