"""When a schedule fires next."""

from datetime import UTC, datetime

import pytest

from jupyter_gpudeploy.backends.kubernetes.mirror.cron import next_time, shown

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()  # a Monday


@pytest.mark.parametrize(
    ("schedule", "when"),
    [
        ("* * * * *", "2026-11-23 12:01"),
        ("0 6 * * *", "2026-11-24 06:00"),
        ("*/20 12 * * *", "2026-11-23 12:20"),
        ("5/20 * * * *", "2026-11-23 12:05"),
        ("0 9-17 * * MON-FRI", "2026-11-23 13:00"),
        ("30 8 * * sat,sun", "2026-11-28 08:30"),
        ("0 0 1 jan *", "2027-01-01 00:00"),
        ("0 0 13 * 5", "2026-11-27 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("@hourly", "2026-11-23 13:00"),
        ("@weekly", "2026-11-29 00:00"),
    ],
)
def test_a_schedule_is_read_as_kubernetes_reads_it(schedule, when):
    assert shown(next_time(schedule, "Etc/UTC", NOON)) == f"{when} UTC"


def test_the_time_is_that_of_the_schedules_zone():
    assert shown(next_time("0 6 * * *", "Europe/Madrid", NOON)) == "2026-11-24 06:00 Europe/Madrid"
    assert next_time("0 6 * * *", "Europe/Madrid", NOON).astimezone(UTC).hour == 5


def test_an_hour_that_the_clocks_leave_out_is_passed_over():
    eve = datetime(2027, 3, 27, 12, 0, tzinfo=UTC).timestamp()
    assert shown(next_time("30 2 * * *", "Europe/Madrid", eve)).startswith("2027-03-29 02:30")


@pytest.mark.parametrize("schedule", ["@every 5m", "61 * * * *", "* * * *", "a * * * *", "*/0 * * * *", "0 0 30 2 *"])
def test_what_cannot_be_read_has_no_next_time(schedule):
    assert next_time(schedule, "Etc/UTC", NOON) is None


def test_a_zone_that_is_not_known_here_has_no_next_time():
    assert next_time("* * * * *", "Middle/Earth", NOON) is None
