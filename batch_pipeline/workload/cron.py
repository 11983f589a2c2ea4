"""Whether a text is a cron line, as far as can be told without Dagster, which asks again."""

import re
from dataclasses import dataclass

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
