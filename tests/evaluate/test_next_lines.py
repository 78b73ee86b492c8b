"""Commands that are printed can be pasted into a shell, whatever the paths hold."""

import shlex
from pathlib import Path

from vice.evaluate.commands.job import say_next


def test_next_lines_quote_paths(capsys):
    say_next(Path("my runs/a & (b)"))
    printed = capsys.readouterr().out.removeprefix("next: ")
    words = ["vice-eval", "report", "my runs/a & (b)", "--output", "my runs/a & (b)/report.html"]
    assert shlex.split(printed) == words
