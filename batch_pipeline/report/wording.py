"""Numbers and dates as the page writes them. A dash says that something is not known."""

import math
from datetime import UTC, date, datetime

UNKNOWN = "–"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage. Only what is whole reads as 100%, and only nothing as 0%."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{digits}%}"
    least = 10**-digits
    if value < 1 and text == f"{1:.{digits}%}":
        return f"{100 - least:.{digits}f}%"
    if value > 0 and text == f"{0:.{digits}%}":
        return f"<{least:.{digits}f}%"
    return text


def points(share: float, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{_signed(share * 100, digits)} pt"


def usd(value: float | None) -> str:
    """Dollars: cents from one dollar on, three significant digits below."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "$0"
    if abs(value) >= 1:
        return f"${value:,.2f}"
    places = min(2 - math.floor(math.log10(abs(value))), 12)
    return f"${value:.{places}f}"


def count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """One unit, two where that says more: 42 s, 7 min, 3.5 h."""
    if seconds is None:
        return UNKNOWN
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def day(value: date) -> str:
    return f"{value.day} {value:%b}"


def long_day(value: date) -> str:
    return f"{value:%A}, {value.day} {value:%B %Y}"


def moment(value: datetime) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def plain(name: str) -> str:
    """A name of ours as words."""
    return name.replace("_", " ")


def plural(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return f"±{text}"
    return f"{'+' if value > 0 else '−'}{text}"
