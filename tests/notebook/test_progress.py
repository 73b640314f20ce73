"""The line that says how far a copy is."""

from jupyter_gpudeploy.notebook.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_is_written_over_twice_a_second_and_left_at_its_end(capsys):
    clock = Clock()
    shown = Progress(clock)
    for step in range(101):
        clock.now = step * 0.02
        shown.show(step * 2**20, 100 * 2**20)
    shown.end()
    lines = capsys.readouterr().out.split("\r")
    assert lines[1:] == [
        "25 MiB of 100 MiB, 50 MiB/s, 1.5 s left",
        "50 MiB of 100 MiB, 50 MiB/s, 1.0 s left",
        "75 MiB of 100 MiB, 50 MiB/s, 0.5 s left",
        "100 MiB of 100 MiB                     \n",
    ]


def test_what_takes_no_time_says_nothing(capsys):
    shown = Progress(Clock())
    shown.show(0, 10)
    shown.show(10, 10)
    shown.end()
    assert capsys.readouterr().out == ""
