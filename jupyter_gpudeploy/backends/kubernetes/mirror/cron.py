"""When a schedule fires next, read as Kubernetes reads it (github.com/robfig/cron/v3, its standard parser)."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_RANGES = (range(60), range(24), range(1, 32), range(1, 13), range(7))
_NAMES: tuple[Sequence[str], ...] = ((), (), (), _MONTHS, _DAYS)
_MOST_DAYS = 366 * 5
_UTC = "Etc/UTC"


def next_time(schedule: str, zone: str, after: float) -> datetime | None:
    """Return when a schedule fires first after a moment (seconds since the epoch), in its time zone.

    None for a schedule or a zone that cannot be read here, and for one that never fires.
    """
    clock = _zone(zone)
    fields = _MACROS.get(schedule.strip().lower(), schedule).split()
    if clock is None or len(fields) != len(_RANGES):
        return None
    try:
        minutes, hours, days, months, weekdays = map(_field, fields, _RANGES, _NAMES)
    except ValueError:
        return None
    either = not (fields[2][0] in "*?" or fields[4][0] in "*?")
    day = datetime.fromtimestamp(after, clock).date()
    for _ in range(_MOST_DAYS):
        by_date, by_weekday = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month in months and (by_date or by_weekday if either else by_date and by_weekday):
            for hour, minute in itertools.product(sorted(hours), sorted(minutes)):
                found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=clock)
                if found.timestamp() > after and _exists(found, clock):
                    return found
        day += timedelta(days=1)
    return None


def shown(moment: datetime) -> str:
    """Return a moment of a schedule for a person: `2026-11-24 06:00 Europe/Madrid`."""
    zone = str(moment.tzinfo)
    return f"{moment:%Y-%m-%d %H:%M} {'UTC' if zone == _UTC else zone}"


def local(moment: float, zone: str) -> datetime:
    """Return a moment in a time zone, in UTC where the zone is not known here."""
    return datetime.fromtimestamp(moment, _zone(zone) or UTC)


def _zone(name: str) -> ZoneInfo | None:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name or _UTC)
    except (KeyError, ValueError, OSError):
        return None


def _exists(moment: datetime, clock: ZoneInfo) -> bool:
    """Whether a clock on the wall ever shows this: in spring an hour is left out."""
    return moment.astimezone(UTC).astimezone(clock).replace(tzinfo=None) == moment.replace(tzinfo=None)


def _field(text: str, whole: range, names: Sequence[str]) -> set[int]:
    """Return the numbers of one field. Raises ValueError."""
    found: set[int] = set()
    for part in text.lower().split(","):
        words, _, step = part.partition("/")
        if words in ("*", "?"):
            first, last = whole[0], whole[-1]
        else:
            begin, dash, end = words.partition("-")
            first = _number(begin, whole, names)
            last = _number(end, whole, names) if dash else whole[-1] if step else first
        if first not in whole or last not in whole or last < first or (step and int(step) < 1):
            raise ValueError(text)
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(text: str, whole: range, names: Sequence[str]) -> int:
    return whole[0] + names.index(text) if text in names else int(text)
