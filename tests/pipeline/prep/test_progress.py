"""What a job prints about itself without a terminal."""

from vice.pipeline.prep.progress import PictureProgress


def test_without_a_terminal_there_is_a_line_per_minute(capsys):
    now = [0.0]
    with PictureProgress(1000, 100, 2, clock=lambda: now[0]) as progress:
        for _ in range(50):
            now[0] += 3.5
            progress.advance(14, 1)
    assert capsys.readouterr().err.splitlines() == [
        "sharding: 352 of 1,000 (35%), 20 rejected, 4.0 pictures/s, 0:02:42 left",
        "sharding: 604 of 1,000 (60%), 38 rejected, 4.0 pictures/s, 0:01:39 left",
    ]


def test_a_job_of_less_than_a_minute_prints_nothing(capsys):
    now = [0.0]
    with PictureProgress(10, 0, clock=lambda: now[0]) as progress:
        now[0] = 59.9
        progress.advance(10, 0)
    assert capsys.readouterr().err == ""
