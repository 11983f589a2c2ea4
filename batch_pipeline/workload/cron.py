"""Whether a text is a cron line, as far as can be told without Dagster, which asks again; and its days in a year."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta

_ALIASES = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?")


@dataclass(frozen=True)
class _Field:
    """One of the five: its range, the names that stand for numbers from `low` on, and words of its own."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    words: str = r"(?!)"

    def takes(self, part: str) -> bool:
        if re.fullmatch(self.words, part):
            return True
        match = _PART.fullmatch(part)
        if match is None:
            return False
        first, last, step = match.groups()
        ends = [self._number(end) for end in (first, last) if end is not None]
        return all(self.low <= end <= self.high for end in ends) and (step is None or int(step) > 0)

    def matches(self, word: str, value: int) -> bool:
        """Whether `value` is among what a valid word of the field names; words of its own match nothing."""
        for part in word.split(","):
            match = _PART.fullmatch(part)
            if part == "?":
                return True
            if match is None or re.fullmatch(r"l[0-7]?|.*#.*", part):
                continue
            first, last, step = match.groups()
            low = self.low if first is None else self._number(first)
            high = (
                self._number(last)
                if last is not None
                else (self.high if first is None or step is not None else low)
            )
            if low <= value <= high and (value - low) % int(step or 1) == 0:
                return True
        return False

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.low
        return int(text) if re.fullmatch("[0-9]+", text) else -1


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    # l is the last day of the month.
    _Field("day of the month", 1, 31, words=r"l|\?"),
    _Field("month", 1, 12, _MONTHS),
    # l5 is the last Friday of the month, fri#2 the second.
    _Field(
        "day of the week",
        0,
        7,
        _DAYS,
        words=rf"\?|l[0-7]|([0-7]|{'|'.join(_DAYS)})#[1-5]",
    ),
)


def cron_problem(line: str) -> str | None:
    """What is wrong with a cron line of five fields, or an alias such as @daily; None if nothing is."""
    words = line.lower().split()
    if len(words) == 1 and words[0].startswith("@"):
        return None if words[0] in _ALIASES else f"is none of {', '.join(_ALIASES)}"
    if len(words) != len(_FIELDS):
        return "does not have five fields: minute, hour, day, month, day of the week"
    for word, field in zip(words, _FIELDS, strict=True):
        for part in word.split(","):
            if not field.takes(part):
                return f"has {part!r} for the {field.name}, which goes from {field.low} to {field.high}"
    return None


_ALIAS_DAYS = {"@weekly": 52, "@monthly": 12, "@yearly": 1, "@annually": 1}
_YEAR = 365


def days_per_year(line: str) -> int:
    """On how many days of a year (2026) a valid cron line falls. Several times a day count as one."""
    words = line.lower().split()
    if len(words) == 1:
        return _ALIAS_DAYS.get(words[0], _YEAR)
    days = (date(2026, 1, 1) + timedelta(n) for n in range(_YEAR))
    return sum(_falls_on(day, *words[2:]) for day in days)


def _falls_on(day: date, of_month: str, months: str, of_week: str) -> bool:
    if not _FIELDS[3].matches(months, day.month):
        return False
    last = monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7
    in_month = _FIELDS[2].matches(of_month, day.day) or ("l" in of_month and day.day == last)
    in_week = _FIELDS[4].matches(of_week, weekday) or (
        weekday == 0 and _FIELDS[4].matches(of_week, 7)
    )
    for part in of_week.split(","):
        name, _, nth = part.partition("#")
        if nth:
            in_week |= _FIELDS[4].matches(name, weekday) and (day.day - 1) // 7 + 1 == int(nth)
        elif len(name) == 2 and name[0] == "l" and name[1].isdigit():
            in_week |= weekday == int(name[1]) % 7 and day.day + 7 > last
    # Where both are restricted, cron takes the days of either.
    if of_month[0] not in "*?" and of_week[0] not in "*?":
        return in_month or in_week
    return in_month and in_week
