"""The environment, read in one place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.state_folder import close_to_others

_PACKAGE = Path(__file__).resolve().parent
SHIPPED_WORKLOADS = _PACKAGE / "defs"
_LEDGER_URL = "postgresql+psycopg://user@host:5432/database"
_ROWS_URL = "s3://bucket/prefix"
_WAREHOUSE_URL = "ducklake:postgres:dbname=catalogue host=host user=user"


def project_root() -> Path:
    """The checkout's top folder, or the current folder where the package is installed as a wheel."""
    top = _PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    Attributes:
        state: folder of all state (`BATCH_PIPELINE_STATE`, default `data/state` of the project).
        workloads: extra folder of workload folders (`BATCH_PIPELINE_WORKLOADS`), or None.
        poll_seconds: time between two looks at open batches (`BATCH_PIPELINE_POLL_SECONDS`, 30).
        grace_seconds: how long an unresolved intent, or a batch that answers 404, is looked for before it
            counts as not there, and results that do not add up are fetched again before they are accepted
            (`BATCH_PIPELINE_GRACE_SECONDS`, 300).
        max_in_flight: most requests, over all loads of the state, that the API may be working on at once
            (`BATCH_PIPELINE_MAX_IN_FLIGHT`), or None. Set it to your organization's queue limit.
        prices: a YAML file with more prices (`BATCH_PIPELINE_PRICES`), or None.
        alerts: the YAML file that says who is told of what (`BATCH_PIPELINE_ALERTS`, default `alerts.yaml` of
            the project), or None where there is none.
        at_once: how many batches of a load are uploaded, or read back, side by side
            (`BATCH_PIPELINE_AT_ONCE`, 2); 1 is one after the other.
        ledger: where the ledger is, if not below the state folder: `postgresql+psycopg://user@host/database`
            (`BATCH_PIPELINE_LEDGER`). It may hold a password, so it is never shown; see `docs/scaling.md`.
        rows: where the rows' files are, if not below the state folder: a URL of any fsspec filesystem, such as
            `s3://bucket/prefix` (`BATCH_PIPELINE_ROWS`). The filesystem's own settings say who may enter.
        warehouse: where metrics and promoted tables are, if not in a DuckDB file below the state folder:
            `ducklake:postgres:dbname=... host=...` (`BATCH_PIPELINE_WAREHOUSE`). Never shown either.
    """

    state: Path
    workloads: Path | None
    poll_seconds: float
    grace_seconds: float
    max_in_flight: int | None
    prices: Path | None
    alerts: Path | None
    at_once: int = 2
    ledger: str | None = field(default=None, repr=False)
    rows: str | None = None
    warehouse: str | None = field(default=None, repr=False)

    def embedded_in(self, state: Path) -> "Settings":
        """The same, with everything below `state` and nothing shared: for what is tried out and thrown away."""
        return replace(self, state=state, ledger=None, rows=None, warehouse=None)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Closes a state folder that is open to other accounts.

        Raises ConfigurationError for a number that is not one, a folder that is not there, or a state
        folder that cannot be closed.
        """
        state = environment.get("BATCH_PIPELINE_STATE")
        workloads = environment.get("BATCH_PIPELINE_WORKLOADS")
        if workloads and not Path(workloads).is_dir():
            raise ConfigurationError(
                f"BATCH_PIPELINE_WORKLOADS names {workloads}, which is not a folder; "
                "point it at a folder that holds one folder per workload."
            )
        prices = environment.get("BATCH_PIPELINE_PRICES")
        folder = Path(state).resolve() if state else project_root() / "data" / "state"
        close_to_others(folder)
        return cls(
            state=folder,
            workloads=Path(workloads).resolve() if workloads else None,
            poll_seconds=_seconds(environment, "BATCH_PIPELINE_POLL_SECONDS", 30),
            grace_seconds=_seconds(environment, "BATCH_PIPELINE_GRACE_SECONDS", 300),
            max_in_flight=_most(environment, "BATCH_PIPELINE_MAX_IN_FLIGHT"),
            prices=Path(prices).resolve() if prices else None,
            alerts=_alerts(environment),
            at_once=_most(environment, "BATCH_PIPELINE_AT_ONCE") or cls.at_once,
            ledger=_ledger(environment),
            rows=_url(environment, "BATCH_PIPELINE_ROWS", "", _ROWS_URL),
            warehouse=_url(environment, "BATCH_PIPELINE_WAREHOUSE", "ducklake:", _WAREHOUSE_URL),
        )


def _alerts(environment: Mapping[str, str]) -> Path | None:
    if stated := environment.get("BATCH_PIPELINE_ALERTS"):
        return Path(stated).resolve()
    usual = project_root() / "alerts.yaml"
    return usual if usual.is_file() else None


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(
            f"{name} is {text!r}; it must be a number of seconds, 0 or more (default {default:g})."
        )
    return value


def _most(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigurationError(f"{name} is {text!r}; it must be a whole number, 1 or more.")
    return int(text)


def _ledger(environment: Mapping[str, str]) -> str | None:
    plain = environment.get("BATCH_PIPELINE_LEDGER", "").strip()
    # As every other tool has it.
    if plain.startswith(("postgresql://", "postgres://")):
        environment = {"BATCH_PIPELINE_LEDGER": f"postgresql+psycopg:{plain.partition(':')[2]}"}
    return _url(environment, "BATCH_PIPELINE_LEDGER", "postgresql+psycopg://", _LEDGER_URL)


def _url(environment: Mapping[str, str], name: str, scheme: str, example: str) -> str | None:
    """What it says is not repeated: a password may stand in it."""
    text = (environment.get(name) or "").strip()
    if not text:
        return None
    if not text.startswith(scheme) or (not scheme and "://" not in text):
        raise ConfigurationError(
            f"{name} is not of the form {example}; write it so, or leave it out to keep everything below "
            "BATCH_PIPELINE_STATE."
        )
    return text.rstrip("/")
