"""US dollars in a sentence."""

from decimal import Decimal


def usd(amount: float | Decimal) -> str:
    """What a load, a month or a bake-off costs: cents from one dollar on, four decimals below."""
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:,.4f}"


def row_usd(amount: float) -> str:
    """What a row costs: millionths of a dollar, three digits where that is less than a hundred of them."""
    return f"${amount:,.6f}" if amount >= 1e-4 else f"${amount:.3g}"
