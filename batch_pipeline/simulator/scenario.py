r"""The scenario file: how long batches take, what is answered, and what goes wrong.

A YAML mapping; every key is optional, an unknown one is refused. For example:

    seed: 7
    turnaround_seconds: 2              # or [1, 5]
    cache_hit_rate: 0.9
    answers:
      file: answer_key.csv             # relative to the scenario file
      lookup: {column: body, pattern: "(?s)\\n\\n(.*)\\Z"}
    models:
      claude-haiku-4-5: {wrong: 0.05, broken: 0.03, refusal: 0.002, server_error: 0.01}
      "*": {wrong: 0.01}
    rows:
      - {contains: "broken printer", times: 1, fault: server_error}
      - {every: 100, fault: expired}
    calls:
      - {on: create, nth: 1, fault: drop_after_accepting}
      - {on: retrieve, first: 2, fault: status, status: 529, retry_after: 1}
      - {on: results, nth: 1, fault: cut_short, at: mid_line, keep: 0.5}

The answer key is a CSV file. The column `lookup.column` holds the text that names the row; a column
called like a property of the request's output schema holds the right answer for it, converted to the
schema's type. Three more columns may stand in it: `fault` (a row fault, every time this row is asked),
`fault_model` (only when this model is asked; empty: any), `difficulty` (0 to 1, 0.5 is usual: the
model's rates of `wrong` and `broken` are multiplied by twice this number for the row).

`Scenario.model_json_schema()` gives the format as a JSON Schema.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from .errors import ScenarioError
from .models import NAMES

RowFault = Literal[
    "wrong",
    "broken",
    "not_json",
    "wrong_type",
    "unknown_label",
    "out_of_range",
    "missing_field",
    "extra_field",
    "enum_case",
    "refusal",
    "refusal_midway",
    "truncated",
    "context_exceeded",
    "pause_turn",
    "server_error",
    "overloaded",
    "rate_limit",
    "invalid_request",
    "expired",
    "canceled",
    "absent",
    "duplicate",
    "unparseable",
    "foreign",
]
"""What can happen to one request.

Answer faults (the result is `succeeded`): `wrong` valid but not right; `broken` one of the five that
follow, drawn; `not_json`, `wrong_type`, `unknown_label`, `out_of_range`, `missing_field`;
`extra_field` a property too many; `enum_case` right but for its capitals; `refusal` without output
(not billed), `refusal_midway` after some (billed); `truncated` at max_tokens; `context_exceeded`;
`pause_turn`. A fault that the request's schema gives no room for becomes `not_json`.
Faults of the service: `server_error`, `overloaded`, `rate_limit`, `invalid_request` give an errored
result; `expired`, `canceled` results of that type.
Faults of the results file: `absent` no line, `unparseable` half a line (both are counted as succeeded
and not billed); `duplicate` the line twice; `foreign` one more line with a custom_id that nobody sent.
On POST /v1/messages the last six are ignored.
"""
ROW_FAULTS: tuple[RowFault, ...] = get_args(RowFault)

CallKind = Literal[
    "create",
    "retrieve",
    "list",
    "results",
    "cancel",
    "delete",
    "messages",
    "count_tokens",
    "models",
]

CallFault = Literal[
    "status",
    "hang",
    "drop_before_accepting",
    "drop_after_accepting",
    "error_after_accepting",
    "cut_short",
    "not_found",
    "lag",
]

Rate = Annotated[float, Field(ge=0, le=1)]


_NAME = re.compile(r"(?!(?:float|int|str)$)[\w-]+$|\*$")


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are truth values: `on` is one of our options."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$", re.IGNORECASE), list("tTfF")
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lookup(_Part):
    """How a request is matched to a row of the answer key."""

    column: str = Field(
        default="text", description="Column of the answer key that holds the row's text."
    )
    pattern: str | None = Field(
        default=None,
        description="Regular expression searched in the text of the last user message; its group 1 "
        "is the row's text. Default: the whole message. Runs of white space count as one space.",
    )

    @field_validator("pattern")
    @classmethod
    def _has_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                groups = re.compile(pattern).groups
            except re.error as error:
                raise ValueError(f"not a regular expression ({error})") from None
            if groups < 1:
                raise ValueError("the pattern needs a group (...) around the row's text")
        return pattern


class Answers(_Part):
    """Where right answers come from."""

    file: Path = Field(description="The answer key, a CSV file; relative to the scenario file.")
    lookup: Lookup = Field(default_factory=Lookup)


class RowRule(_Part):
    """A scripted fault of single requests. Of all rules the first that fires decides."""

    fault: RowFault
    contains: str | None = Field(
        default=None, description="Only requests whose user messages contain it."
    )
    model: str | None = Field(default=None, description="Only requests that name this model.")
    every: int = Field(default=1, ge=1, description="Only every n-th of the requests that match.")
    times: int | None = Field(
        default=None,
        ge=1,
        description="At most so often, counted over all batches. Default: no limit.",
    )


class CallRule(_Part):
    """A scripted fault of single calls. Calls are counted from 1 over those `on` names, for as long
    as the state lives; of all rules the first that fires decides. With no selector, every call.
    """

    on: CallKind | list[CallKind] = Field(description="Which kind of call, or a list of kinds.")
    fault: CallFault = Field(
        description="status: answer with `status` and do nothing. hang: stay silent for `seconds`. "
        "drop_before_accepting, drop_after_accepting: close the connection without an answer, before "
        "or after the call took effect. error_after_accepting: take effect, then answer `status` "
        "(default 500). cut_short: end the results early. not_found: 404 for `seconds` after the "
        "batch was created. lag: leave batches out of the list for `seconds` after creation."
    )
    nth: int | list[int] | None = Field(default=None, description="Only these calls.")
    first: int | None = Field(default=None, ge=1, description="Only the first so many.")
    after: int | None = Field(default=None, ge=0, description="Only those after the first so many.")
    every: int | None = Field(default=None, ge=1, description="Only every n-th.")
    status: int | None = Field(
        default=None, ge=400, le=599, description="HTTP status of the answer."
    )
    error_type: str | None = Field(
        default=None, description="Error type; default: the status's own."
    )
    error_code: str | None = Field(
        default=None, description="details.error_code, such as enforced_spend_limit_reached."
    )
    message: str | None = Field(default=None, description="Error message.")
    retry_after: float | None = Field(
        default=None, ge=0, description="Seconds, as a retry-after header."
    )
    seconds: float | None = Field(default=None, ge=0, description="For hang, not_found and lag.")
    when: Literal["before_accepting", "after_accepting"] = Field(
        default="before_accepting",
        description="For hang: before the call takes effect (and it does not if the client has "
        "gone meanwhile), or after.",
    )
    at: Literal["line", "mid_line", "connection"] = Field(
        default="line",
        description="For cut_short: end cleanly on a line boundary, cleanly within a line, or break "
        "the connection within a line.",
    )
    keep: Rate = Field(
        default=0.5, description="For cut_short: the share of the bytes that still comes."
    )

    @property
    def kinds(self) -> tuple[CallKind, ...]:
        return tuple(self.on) if isinstance(self.on, list) else (self.on,)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.fault == "status" and self.status is None:
            raise ValueError("fault status needs `status`, the HTTP status to answer with")
        if self.fault in {"hang", "not_found", "lag"} and self.seconds is None:
            raise ValueError(f"fault {self.fault} needs `seconds`")
        allowed = {
            "cut_short": {"results"},
            "lag": {"list"},
            "not_found": {"retrieve", "results", "cancel", "delete"},
        }.get(self.fault)
        if allowed is not None and not allowed.issuperset(self.kinds):
            raise ValueError(f"fault {self.fault} can only be `on: {' or '.join(sorted(allowed))}`")
        return self

    def fires(self, count: int) -> bool:
        """Whether the count-th matching call (from 1) is hit."""
        if self.nth is not None:
            wanted = self.nth if isinstance(self.nth, list) else [self.nth]
            if count not in wanted:
                return False
        if self.first is not None and count > self.first:
            return False
        if self.after is not None and count <= self.after:
            return False
        return self.every is None or count % self.every == 0


class Scenario(_Part):
    """How the simulated API behaves. The default: at once, without faults, with made-up answers."""

    description: str = Field(
        default="", description="A sentence for people, shown by GET /simulator."
    )
    seed: int = Field(default=0, description="Decides every draw.")
    turnaround_seconds: float | tuple[float, float] = Field(
        default=0.0,
        description="From creation to end of a batch: a number, or [min, max] to draw from.",
    )
    cancel_seconds: float = Field(
        default=0.0, ge=0, description="From cancellation to end of a batch."
    )
    expires_after_seconds: float = Field(
        default=86_400.0, gt=0, description="A batch that would take longer ends then, as expired."
    )
    results_kept_seconds: float = Field(
        default=29 * 86_400.0, gt=0, description="From creation until results are archived."
    )
    done_when_stopped: Rate = Field(
        default=0.0,
        description="Share of requests already done when a batch is canceled or expires.",
    )
    max_requests: int = Field(default=100_000, ge=1, description="Most requests in one batch.")
    max_bytes: int = Field(default=256_000_000, ge=1, description="Most bytes in one request body.")
    queue_limit: int | None = Field(
        default=None,
        ge=1,
        description="Most requests in batches that have not ended. Default: no limit.",
    )
    keys: list[str] | None = Field(
        default=None,
        description="Accepted API keys. Default: any that is not empty and has no `invalid` in it.",
    )
    cache_hit_rate: Rate = Field(
        default=0.9, description="Chance that a request finds a prefix that an earlier one wrote."
    )
    cache_first_writes: int = Field(
        default=1, ge=1, description="How many requests write a new prefix before it can be read."
    )
    redraw: Rate = Field(
        default=1.0,
        description="Share of answer faults drawn anew in each batch. At 0 a model always answers a "
        "given text the same way; faults of the service are always drawn anew.",
    )
    answers: Answers | None = Field(
        default=None, description="Default: valid answers made up from each request's schema."
    )
    models: dict[str, dict[RowFault, Rate]] = Field(
        default_factory=dict,
        description="Rate of each row fault by model; `*` stands for the models not named.",
    )
    rows: list[RowRule] = Field(default_factory=list)
    calls: list[CallRule] = Field(default_factory=list)

    @field_validator("turnaround_seconds")
    @classmethod
    def _in_order(cls, value: float | tuple[float, float]) -> float | tuple[float, float]:
        low, high = value if isinstance(value, tuple) else (value, value)
        if not 0 <= low <= high:
            raise ValueError("give seconds, not negative, as one number or as [min, max]")
        return value

    @field_validator("models")
    @classmethod
    def _known(cls, models: dict[str, dict[RowFault, float]]) -> dict[str, dict[RowFault, float]]:
        for name, rates in models.items():
            if name != "*" and name not in NAMES:
                raise ValueError(f"{name} is no model of this API; it has {', '.join(NAMES)}")
            if sum(rates.values()) > 1:
                raise ValueError(f"the rates of {name} add up to more than 1")
        return models

    def rates(self, *names: str) -> dict[RowFault, float]:
        """The rates of the first of these names that is listed, else of `*`, else none."""
        for name in (*names, "*"):
            if name in self.models:
                return self.models[name]
        return {}

    @classmethod
    def from_file(cls, path: Path) -> Scenario:
        """Read a scenario.

        Raises:
            ScenarioError: the file is missing, not YAML, or not a scenario.
        """
        try:
            data: Any = _Loader(path.read_text(encoding="utf-8")).get_single_data()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise ScenarioError(f"{path}: cannot read the scenario: {reason}.") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}:" if mark is not None else ""
            problem = getattr(error, "problem", None) or "cannot be parsed"
            raise ScenarioError(f"{path}:{line} not YAML: {problem}.") from None
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise ScenarioError(f"{path}: a scenario is a mapping of options, such as `seed: 7`.")
        try:
            scenario = cls.model_validate(data)
        except ValidationError as error:
            raise ScenarioError(f"{path}: {_sentence(error)}") from None
        if scenario.answers is None:
            return scenario
        answers = scenario.answers.model_copy(
            update={"file": path.resolve().parent / scenario.answers.file}
        )
        return scenario.model_copy(update={"answers": answers})


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ""
    for part in first["loc"]:
        if isinstance(part, str) and not _NAME.match(part):
            break  # from here on it says which branch of a union was tried
        where += f".{part}"
    where = where.removeprefix(".") or "scenario"
    if first["type"] == "extra_forbidden":
        return f"{where}: no such option."
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}."
