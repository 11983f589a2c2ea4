"""How far a measured share may be from the true one."""

from math import sqrt

_Z = 1.959963984540054  # 97.5% of the normal distribution


def wilson(good: float, n: float) -> tuple[float, float]:
    """The 95% interval of `good` of `n` as shares; (0, 1) where nothing was counted.

    Wilson 1927, JASA 22:209. It stays within 0…1 and has a width at 0% and at 100%, too.
    """
    if n <= 0:
        return 0.0, 1.0
    share = good / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)
