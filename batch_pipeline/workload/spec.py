"""What a user declares, field by field. The YAML of a workload is validated against `WorkloadSpec`.

Only shapes and ranges are checked here. What needs the workload's folder (files, templates, columns)
is checked by `workload.workload` and `stages.source`.
"""

import re
from collections.abc import Collection, Iterable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from batch_pipeline.workload.cron import cron_problem
from batch_pipeline.workload.postgres_names import Table, Variable, check_column

# The API's own limits (facts of the Message Batches API): 100,000 requests or 256 MB a batch. Whether
# that is MB or MiB is nowhere said, and a proxy counts the HTTP body, so we stay well below.
MAX_REQUESTS = 100_000
MAX_BYTES = 200_000_000

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NAME_RULE = (
    "it begins with a small letter and holds at most 63 small letters, digits and underscores"
)


# Columns that our own tables have beside the source's and the contract's.
TABLE_NAMES = ("_row", "_golden", "_key", "_tier", "_model", "_batch_id", "_load")
# The group of every asset that has none.
DAGSTER_NAMES = ("default",)


def in_any_case(names: Collection[str], among: Iterable[str]) -> str | None:
    """The first of `among` that SQL takes for one of `names`."""
    folded = {name.casefold() for name in names}
    return next((name for name in among if name.casefold() in folded), None)


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSpec(_Declared):
    """Where the rows of a load come from: a file, a DuckDB query, or a table or query of a Postgres."""

    path: str | None = Field(
        None,
        description="CSV, Parquet or NDJSON file, relative to this folder; `{{ partition }}` is "
        "the load's date. CSV columns are read as text, so that ids keep their zeros.",
    )
    format: Literal["csv", "parquet", "ndjson"] | None = Field(
        None,
        description="Format of the file; by default its ending says (.csv, .parquet, .ndjson).",
    )
    sql: str | None = Field(
        None,
        description="A DuckDB SELECT instead of a file; `{{ partition }}` is the load's date. "
        "Relative paths in it start from this folder.",
    )
    database: str | None = Field(
        None,
        description="A DuckDB file for `sql`, relative to this folder: its tables are known by their "
        "names, or as source.<table>. It is opened read-only.",
    )
    url_env: Variable | None = Field(
        None,
        description="The environment variable that holds a Postgres's connection string "
        "(postgresql://user@host/database), for `table` or `query`.",
    )
    table: Table | None = Field(
        None,
        description="A table or view of that Postgres, as name or schema.name, written exactly as it is called.",
        min_length=1,
    )
    query: str | None = Field(
        None,
        description="A SELECT that that Postgres runs, in a transaction that may only read; `{{ partition }}` is "
        "the load's date, of type date.",
        min_length=1,
    )
    key: str = Field(
        description="The column that identifies a row: unique, never null.", min_length=1
    )

    @field_validator("key")
    @classmethod
    def _no_name_of_ours(cls, value: str) -> str:
        if in_any_case(TABLE_NAMES, [value]):
            raise ValueError(
                f"{value!r} is a name that the promoted table needs; rename the column"
            )
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> "SourceSpec":
        if self.url_env is not None:
            if (self.table is None) == (self.query is None):
                raise ValueError("with `url_env`, give either `table` or `query`")
            if self.path is not None or self.sql is not None:
                raise ValueError("`url_env` goes with `table` or `query`, not with `path` or `sql`")
        elif self.table is not None or self.query is not None:
            raise ValueError("`table` and `query` go with `url_env`, the Postgres to ask")
        elif (self.path is None) == (self.sql is None):
            raise ValueError(
                "give either `path` or `sql`, or `url_env` with `table` or `query` for a Postgres"
            )
        if self.database is not None and self.sql is None:
            raise ValueError("`database` goes with `sql`")
        if self.format is not None and self.path is None:
            raise ValueError("`format` goes with `path`")
        return self


class PromptSpec(_Declared):
    """What each request says. The system prompt is the same in every request of a tier."""

    system: str | None = Field(
        None, description="System prompt: a .md or .txt file in this folder, or the text itself."
    )
    user: str = Field(
        description="Jinja template over the row's columns: a .j2, .jinja, .md or .txt file, or the "
        "text. A column whose name Jinja cannot take is `{{ row['my column'] }}`.",
        min_length=1,
    )
    cache: Literal["auto", "none", "5m", "1h"] = Field(
        "auto",
        description="Ask the API to cache what all requests of a load begin with (the system prompt, and the "
        "user message up to the first column that differs between rows) for this long. `auto` asks for 1 h "
        "where that pays.",
    )


class TierSpec(_Declared):
    """A model and its parameters. The first tier is the cheapest; a row climbs when its answer fails."""

    model: str = Field(description="Model id, as in the price table.", min_length=1)
    max_tokens: int = Field(description="Longest answer, in tokens.", ge=1, strict=True)
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="`output_config.effort`, where the model has it."
    )
    thinking: dict[str, Any] | None = Field(
        None, description="The API's `thinking` object, where the model allows it."
    )
    inference_geo: Literal["global", "us"] | None = Field(
        None,
        description="Where the model runs; `us` costs a tenth more. By default the workspace's setting.",
    )


class GoldenSpec(_Declared):
    """Rows with known answers that ride along with every load."""

    path: str = Field(
        description="CSV, Parquet or NDJSON: the source's columns that the prompt uses, and the right "
        "answers in columns expected_<field>."
    )
    match: list[str] = Field(
        description="The output fields that must all equal their expected value.", min_length=1
    )
    baseline: Annotated[Decimal, Field(ge=0, le=1)] = Field(
        description="The golden score that was accepted, as a share."
    )


class GatesSpec(_Declared):
    """What holds a load back. Coverage below 100% always does."""

    golden_drop_points: Annotated[Decimal, Field(gt=0, le=100)] = Field(
        Decimal(3), description="Hold when the golden score is this many points below its baseline."
    )
    min_validity: Annotated[Decimal, Field(ge=0, le=1)] | None = Field(
        None, description="Hold when output validity at tier 0, first attempt, is lower."
    )
    max_cost_usd: Decimal | None = Field(
        None,
        description="Most that a load may cost, in US dollars: what the estimate says it could cost at most is "
        "held against it before anything is sent, what it has cost after each wave.",
    )
    max_cost_usd_per_month: Decimal | None = Field(
        None,
        description="Most that all loads and bake-offs of the workload may cost in a calendar month (UTC), in US dollars.",
    )

    @field_validator("max_cost_usd", "max_cost_usd_per_month")
    @classmethod
    def _something_to_spend(cls, value: Decimal | None) -> Decimal | None:
        if value is not None and value <= 0:
            raise ValueError(
                "a budget of nothing lets nothing be sent; give an amount above 0, or leave it out for no limit"
            )
        return value


class PromoteSpec(_Declared):
    """The system of record: where validated rows go."""

    to: Literal["warehouse", "postgres", "parquet"] = Field(
        "warehouse",
        description="The warehouse's table promoted.<workload>, a table of a Postgres, or a folder of Parquet files.",
    )
    url_env: Variable | None = Field(
        None,
        description="For postgres: the environment variable that holds the connection string "
        "(postgresql://user@host/database).",
    )
    table: Table | None = Field(
        None,
        description="For postgres: the table, as name or schema.name; by default the workload's name, in the schema "
        "`public`. It is made where it is missing.",
        min_length=1,
    )
    path: str | None = Field(
        None,
        description="For parquet: a folder, relative to this one, or a URL of any fsspec filesystem, such as "
        "s3://bucket/folder. Each load is one file in it.",
        min_length=1,
    )

    @field_validator("path")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        host = (value or "").partition("://")[2].split("/")[0]
        if ":" in host.rpartition("@")[0]:
            raise ValueError(
                "holds a password; leave it out: the filesystem's own settings say who may enter (for S3 the AWS "
                "variables or profile)"
            )
        return value

    @model_validator(mode="after")
    def _what_it_needs(self) -> "PromoteSpec":
        needs = {"warehouse": (), "postgres": ("url_env",), "parquet": ("path",)}[self.to]
        takes = {"warehouse": (), "postgres": ("url_env", "table"), "parquet": ("path",)}[self.to]
        for name in needs:
            if getattr(self, name) is None:
                raise ValueError(f"`to: {self.to}` needs `{name}`")
        for name in ("url_env", "table", "path"):
            if name not in takes and getattr(self, name) is not None:
                raise ValueError(f"`{name}` does not go with `to: {self.to}`")
        return self


class TrendsSpec(_Declared):
    """When a slow change of a rate is reported. The defaults page at most once in two quarters at 1,000 rows."""

    page: bool = Field(
        True,
        strict=True,
        description="Whether a falling trend and a broken slice page, rather than being logged. Turn it off where "
        "weekdays differ by more than 0.3 points.",
    )
    wobble_points: Annotated[Decimal, Field(ge=0, le=10)] = Field(
        Decimal("0.15"),
        description="How far a rate differs from night to night when nothing has changed, in points; more is learned "
        "from earlier nights.",
    )
    min_fall_points: Annotated[Decimal, Field(gt=0, le=50)] = Field(
        Decimal("0.8"), description="The least fall within a window that is a trend, in points."
    )


class PilotSpec(_Declared):
    """A first batch of the golden rows and a few others, which must pass before the rest is sent."""

    rows: int = Field(
        200,
        ge=1,
        le=10_000,
        strict=True,
        description="Source rows in the pilot, beside the golden ones.",
    )


class SyncSpec(_Declared):
    """When `lane: auto` sends a load through the synchronous API, at full price, and how."""

    below_rows: int = Field(
        20,
        ge=0,
        strict=True,
        description="A load of fewer source rows goes through the synchronous API: what a batch saves there is "
        "less than waiting for one is worth.",
    )
    deadline_hours: Annotated[Decimal, Field(gt=0)] | None = Field(
        None,
        description="The results are needed so many hours after the load is sent. A batch may take 24, so with a "
        "shorter deadline the load goes through the synchronous API.",
    )
    concurrency: int = Field(
        8, ge=1, le=64, strict=True, description="Synchronous requests under way at a time."
    )


class LimitsSpec(_Declared):
    """How rows are cut into batches."""

    max_requests: int = Field(
        MAX_REQUESTS,
        ge=1,
        le=MAX_REQUESTS,
        strict=True,
        description="Most requests in one batch.",
    )
    max_bytes: int = Field(
        MAX_BYTES,
        ge=1_000,
        le=MAX_BYTES,
        strict=True,
        description="Most bytes of one batch's request body.",
    )
    attempts: int = Field(
        3,
        ge=1,
        le=10,
        strict=True,
        description="How often a row is sent to one tier when the API fails it.",
    )


class PartitionsSpec(_Declared):
    """The days a load can be made for."""

    start: date = Field(date(2025, 1, 1), description="The first day.")
    timezone: str = Field("UTC", description="Where days begin, and the schedule's clock.")

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"unknown time zone {value!r}; use a name such as UTC or Europe/Paris")
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


class WorkloadSpec(_Declared):
    """One declared job: which rows, which prompt, what a valid answer is, and what lets it through."""

    name: str = Field(
        description="Prefix of the asset keys and name of the asset group.",
        json_schema_extra={"pattern": f"^{NAME.pattern}$"},
    )
    description: str | None = Field(None, description="One sentence on what the job is for.")
    owners: list[str] = Field(
        ["team:data"], description="Owners of its assets: e-mail addresses or team:<name>."
    )
    source: SourceSpec = Field(description="Where the rows of a load come from.")
    prompt: PromptSpec = Field(description="What each request says.")
    output: dict[str, dict[str, Any]] = Field(
        description="The answer's fields: name to JSON Schema.", min_length=1
    )
    checks: str | None = Field(
        None,
        description="A Pandera schema of your own, as module:Attribute, in this folder or installed.",
    )
    tiers: list[TierSpec] = Field(
        min_length=1,
        max_length=8,
        description="The models, cheapest first; a row climbs when its answer fails the contract.",
    )
    golden: GoldenSpec | None = Field(
        None, description="Rows with known answers, carried in every load and graded."
    )
    gates: GatesSpec = Field(GatesSpec(), description="What holds a load back from being promoted.")
    promote: PromoteSpec = Field(PromoteSpec(), description="Where validated rows go.")
    slices: list[str] = Field(
        [],
        max_length=8,
        description="Columns of the source that have few values, such as a channel or a language: validity and the "
        "golden score are watched for each value.",
    )
    trends: TrendsSpec = Field(
        TrendsSpec(), description="When a slow change of a rate is reported."
    )
    limits: LimitsSpec = Field(LimitsSpec(), description="How rows are cut into batches.")
    lane: Literal["batch", "sync", "auto"] = Field(
        "batch",
        description="How requests reach the API: batch, at half price within 24 h; sync, one by one at full "
        "price; auto decides by `sync`.",
    )
    sync: SyncSpec = Field(SyncSpec(), description="The synchronous lane.")
    pilot: PilotSpec | Literal[False] | None = Field(
        None,
        description="The pilot batch. By default loads of more than 10,000 rows have one of 200 rows; `false` "
        "turns it off.",
    )
    dedupe: bool = Field(
        True,
        strict=True,
        description="Whether rows of a load with the same rendered prompt are sent once and share the answer.",
    )
    reuse: bool = Field(
        False,
        strict=True,
        description="Whether a row whose prompt, contract and tiers are unchanged since it was promoted keeps that "
        "answer, and is not sent.",
    )
    partitions: PartitionsSpec = Field(
        PartitionsSpec(), description="The days a load can be made for."
    )
    schedule: str | None = Field(
        None, description="Cron line: when to send the load of the day before."
    )
    sensitive: bool = Field(
        False,
        strict=True,
        description="Whether not even keys may show outside the data itself: no example rows on checks, no "
        "keys in errors. Row text never shows there.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not a workload's name; {NAME_RULE}")
        return value

    @field_validator("name")
    @classmethod
    def _no_name_of_dagsters(cls, value: str) -> str:
        if value in DAGSTER_NAMES:
            raise ValueError(f"{value!r} is a name that Dagster keeps for itself; choose another")
        return value

    @field_validator("output")
    @classmethod
    def _no_name_of_ours(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if taken := in_any_case(TABLE_NAMES, value):
            raise ValueError(f"{taken!r} is a name that our own tables need; rename the field")
        return value

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None and (problem := cron_problem(value)):
            raise ValueError(f"{value!r} {problem}; a cron line is such as '0 2 * * *'")
        return value

    @field_validator("owners")
    @classmethod
    def _owners(cls, value: list[str]) -> list[str]:
        wrong = [o for o in value if "@" not in o and not o.startswith("team:")]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is neither an e-mail address nor team:<name>")
        return value

    @model_validator(mode="after")
    def _key_is_no_field(self) -> "WorkloadSpec":
        if field := in_any_case([self.source.key], self.output):
            raise ValueError(
                f"output has a field {field!r}, which is the source's key too; rename the field"
            )
        return self

    @model_validator(mode="after")
    def _matches_are_fields(self) -> "WorkloadSpec":
        unknown = [f for f in (self.golden.match if self.golden else []) if f not in self.output]
        if unknown:
            raise ValueError(
                f"golden.match names {unknown[0]!r}, which is not a field of output "
                f"({', '.join(self.output)})"
            )
        return self

    @model_validator(mode="after")
    def _names_that_the_target_takes(self) -> "WorkloadSpec":
        if self.promote.to != "postgres":
            return self
        for name in (self.source.key, *self.output):
            check_column(name)
        return self
