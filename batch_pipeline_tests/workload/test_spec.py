"""What may be declared, and what is refused before anything is read."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from batch_pipeline.workload.postgres_names import table_parts
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline_tests.night import declaration


def declared(**changes: Any) -> WorkloadSpec:
    return WorkloadSpec.model_validate(declaration(**changes))


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as refused:
        declared(**changes)
    (error,) = refused.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from sections(part)


@pytest.mark.parametrize(
    "section", list(sections(WorkloadSpec)), ids=lambda section: section.__name__
)
def test_every_option_is_described_for_the_documentation_tab(section: type[BaseModel]) -> None:
    undescribed = [name for name, field in section.model_fields.items() if not field.description]
    assert undescribed == []
    assert section.__doc__


def test_the_smallest_declaration_has_sensible_defaults() -> None:
    spec = declared(golden=None)

    assert (spec.limits.max_requests, spec.limits.max_bytes) == (100_000, 200_000_000)
    assert (spec.limits.attempts, spec.partitions.timezone, spec.schedule) == (3, "UTC", None)
    assert spec.prompt.cache == "auto"


def test_shares_are_exact_as_they_were_written() -> None:
    assert str(declared(golden={"path": "g", "match": ["label"], "baseline": 0.94}).golden) == (
        "path='g' match=['label'] baseline=Decimal('0.94')"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Tickets"}, "name: Value error, 'Tickets' is not a workload's name"),
        ({"name": "a" * 64}, "is not a workload's name"),
        ({"name": "a-b"}, "is not a workload's name"),
        ({"source": {"key": "id"}}, "give either `path` or `sql`"),
        ({"source": {"key": "id", "path": "a.csv", "sql": "SELECT 1"}}, "give either `path` or"),
        ({"source": {"key": "id", "path": "a.csv", "database": "b"}}, "`database` goes with `sql`"),
        ({"source": {"key": "id", "sql": "x", "format": "csv"}}, "`format` goes with `path`"),
        ({"source": {"key": "id", "path": "a", "format": "xls"}}, "'csv', 'parquet' or 'ndjson'"),
        ({"source": {"key": "", "path": "a.csv"}}, "source.key"),
        ({"source": {"key": "_Tier", "path": "a.csv"}}, "'_Tier' is a name that the promoted table needs"),
        ({"source": {"key": "Label", "path": "a.csv"}}, "a field 'label', which is the source's key too"),
        ({"source": {"key": "id", "table": "t"}}, "`table` and `query` go with `url_env`"),
        ({"source": {"key": "id", "url_env": "DB"}}, "with `url_env`, give either `table` or `query`"),
        ({"source": {"key": "id", "url_env": "DB", "table": "t", "query": "q"}}, "give either `table` or `query`"),
        ({"source": {"key": "id", "url_env": "DB", "table": "t", "path": "a.csv"}}, "not with `path` or `sql`"),
        ({"source": {"key": "id", "url_env": "postgres://u:pw@h/d", "table": "t"}}, "never the string itself"),
        ({"source": {"key": "id", "url_env": "DB", "table": "a.b.c"}}, "as name or schema.name"),
        ({"promote": {"to": "s3"}}, "promote.to"),
        ({"promote": {"to": "postgres"}}, "`to: postgres` needs `url_env`"),
        ({"promote": {"to": "postgres", "url_env": "postgres://u:pw@h/d"}}, "never the string itself"),
        ({"promote": {"to": "postgres", "url_env": "DB", "table": 'a"b'}}, "goes in double quotes"),
        ({"promote": {"to": "postgres", "url_env": "DB", "table": "ü" * 32}}, "more than 63 bytes"),
        ({"promote": {"to": "postgres", "url_env": "DB", "path": "out"}}, "`path` does not go with `to: postgres`"),
        ({"promote": {"to": "parquet"}}, "`to: parquet` needs `path`"),
        ({"promote": {"to": "parquet", "path": "s3://key:pw@bucket/x"}}, "holds a password; leave it out"),
        ({"promote": {"url_env": "DB"}}, "`url_env` does not go with `to: warehouse`"),
        ({"promote": {"to": "postgres", "url_env": "DB"}, "output": {"ctid": {"type": "string"}}, "golden": None}, "a column that every Postgres"),
        ({"promote": {"to": "postgres", "url_env": "DB"}, "source": {"key": "k" * 64, "path": "a.csv"}}, "more than 63 bytes"),
        ({"gates": {"max_cost_usd": 0}}, "a budget of nothing lets nothing be sent"),
        ({"prompt": {"user": ""}}, "prompt.user"),
        ({"output": {}}, "output"),
        ({"tiers": []}, "tiers"),
        ({"tiers": [{"model": "m", "max_tokens": 0}]}, "tiers.0.max_tokens"),
        ({"tiers": [{"model": "m", "max_tokens": True}]}, "tiers.0.max_tokens"),
        ({"tiers": [{"model": "m", "max_tokens": "64"}]}, "tiers.0.max_tokens"),
        ({"golden": {"path": "g", "match": ["label"], "baseline": 1.1}}, "golden.baseline"),
        ({"golden": {"path": "g", "match": ["label"], "baseline": float("nan")}}, "golden.baseline"),
        ({"golden": {"path": "g", "match": [], "baseline": 1}}, "golden.match"),
        ({"golden": {"path": "g", "match": ["topic"], "baseline": 1}}, "not a field of output (label)"),
        ({"gates": {"golden_drop_points": 0}}, "gates.golden_drop_points"),
        ({"gates": {"min_validity": 95}}, "gates.min_validity"),
        ({"limits": {"max_requests": 100_001}}, "limits.max_requests"),
        ({"limits": {"max_bytes": 200_000_001}}, "limits.max_bytes"),
        ({"limits": {"attempts": 0}}, "limits.attempts"),
        ({"partitions": {"timezone": "Paris"}}, "unknown time zone 'Paris'"),
        ({"partitions": {"start": "yesterday"}}, "partitions.start"),
        ({"schedule": "0 2 * *"}, "'0 2 * *' does not have five fields"),
        ({"schedule": "0 25 * * *"}, "'25' for the hour"),
        ({"owners": ["someone"]}, "neither an e-mail address nor team:<name>"),
        ({"sensitive": "no"}, "sensitive: Input should be a valid boolean"),
        ({"colour": "red"}, "colour: Extra inputs"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refusal(**changes)


def test_a_password_in_a_declaration_is_not_repeated() -> None:
    for changes in (
        {"source": {"key": "id", "url_env": "postgres://u:hidden@h/d", "table": "t"}},
        {"promote": {"to": "postgres", "url_env": "postgres://u:hidden@h/d"}},
        {"promote": {"to": "parquet", "path": "s3://key:hidden@bucket/x"}},
    ):
        with pytest.raises(ValidationError) as refused:
            WorkloadSpec.model_validate(declaration(**changes))
        assert all("hidden" not in error["msg"] for error in refused.value.errors())


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("tickets", ("public", "tickets")),
        ("sales.Tickets", ("sales", "Tickets")),
        ('"a.b"."c""d"', ("a.b", 'c"d')),
        ("my table", ("public", "my table")),
    ],
)
def test_a_table_is_called_as_it_is_written(written: str, parts: tuple[str, str]) -> None:
    assert table_parts(written) == parts


def test_a_container_of_an_azure_account_is_no_password() -> None:
    place = "abfss://container@account.dfs.core.windows.net/x"
    spec = WorkloadSpec.model_validate(declaration(promote={"to": "parquet", "path": place}))
    assert spec.promote.path == place
