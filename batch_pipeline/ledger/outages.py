"""A Postgres that keeps a ledger cannot be reached, or lets nobody in: how that shows, and what a person is told."""

from sqlalchemy.exc import DBAPIError

from batch_pipeline.errors import ConfigurationError, OutageError, PipelineError

SCHEMA = "batch_pipeline"
VARIABLE = "BATCH_PIPELINE_LEDGER"

# Beginnings of SQLSTATEs: the connection broke; the server stops, starts, has no connection left, or is no longer
# the one that is written to; a transaction lost against another.
_AWAY_CODES = ("08", "57P", "53300", "25006", "40")
# The account may not, there is no such database, it is not let in.
_REFUSED_CODES = frozenset({"42501", "3D000", "28000", "28P01"})
# libpq has no code for a connection that was never made. These are no matter of waiting.
_REFUSED = (
    "authentication failed",
    "no password supplied",
    "pg_hba.conf",
    "does not exist",
    "permission denied",
    "not permitted",
    "certificate",
    "SSL",
    "invalid ",
)


class LedgerAwayError(OutageError):
    """The ledger's database cannot be reached. What was committed is whole."""


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, as opposed to what it answers when it can."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return str(code).startswith(_AWAY_CODES)
    from psycopg import InterfaceError, OperationalError

    if not isinstance(error.orig, OperationalError | InterfaceError):
        return False
    return not any(word in _said(error) for word in _REFUSED)


def _said(error: DBAPIError) -> str:
    """What the server or libpq said, in a line; never the statement or its values."""
    lines = str(error.orig).strip().splitlines() or ["no reason was given"]
    return lines[0].strip().rstrip(".")


def sentence_for(error: DBAPIError, place: str) -> PipelineError | None:
    """What a person reads; None where the database could be used and `error` says something else.

    `place` is the database without a password.
    """
    said = _said(error)
    if is_away(error):
        return LedgerAwayError(
            f"The ledger's database at {place} cannot be reached: {said}. Nothing is lost: look whether it "
            f"runs and whether {VARIABLE} is right, then call again; it goes on from here."
        )
    code = getattr(error.orig, "sqlstate", None)
    refused = code in _REFUSED_CODES if code else any(word in said for word in _REFUSED)
    if not refused:
        return None
    return ConfigurationError(
        f"The ledger's database at {place} does not let this account in or create what it needs: {said}. "
        f"Look at {VARIABLE}; the account needs a schema {SCHEMA} of its own, or the right to create it."
    )
