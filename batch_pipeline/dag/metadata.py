"""What each asset shows: numbers that Dagster plots under stable names, and column schemas."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from batch_pipeline.workload.workload import Workload

if TYPE_CHECKING:
    from batch_pipeline.stages.scorecard import Scorecard

Metadata = dict[str, dg.MetadataValue]


def numbers(**values: float | None) -> Metadata:
    """Six digits, so that the UI stays readable; unknown ones are left out rather than plotted as 0."""
    return {
        name: dg.MetadataValue.int(value)
        if isinstance(value, int)
        else dg.MetadataValue.float(float(f"{value:.6g}"))
        for name, value in values.items()
        if value is not None
    }


def said(**sentences: str | None) -> Metadata:
    """Sentences, where there is something to say."""
    return {name: dg.MetadataValue.text(text) for name, text in sentences.items() if text}


def columns(described: Iterable[tuple[str, str]]) -> Metadata:
    """Dagster's column schema from (name, type) pairs."""
    return {
        "dagster/column_schema": dg.TableSchemaMetadataValue(
            dg.TableSchema([dg.TableColumn(name, kind.lower()) for name, kind in described])
        )
    }


def answer_columns(workload: Workload) -> list[dg.TableColumn]:
    """The contract's fields with their constraints, as the UI lists them."""
    found = []
    for field in workload.contract.fields:
        rules = [field.requirements()] if field.requirements() else []
        if field.enum:
            rules.insert(0, "one of " + ", ".join(str(value) for value in field.enum))
        found.append(
            dg.TableColumn(
                field.name,
                workload.contract.duckdb_type(field).lower(),
                description=field.description,
                constraints=dg.TableColumnConstraints(nullable=field.nullable, other=rules),
            )
        )
    return found


def schema(*parts: tuple[str, str, str] | dg.TableColumn) -> Mapping[str, dg.MetadataValue]:
    """A column schema known before anything ran, from (name, type, description) or whole columns."""
    listed = [
        part
        if isinstance(part, dg.TableColumn)
        else dg.TableColumn(part[0], part[1], description=part[2])
        for part in parts
    ]
    return {"dagster/column_schema": dg.TableSchemaMetadataValue(dg.TableSchema(listed))}


def scorecard_numbers(card: "Scorecard") -> Metadata:
    """The measures of a load, under the names of the metrics table."""
    return numbers(
        **{name: rate.value for name, rate in card.rates.items()},
        golden_score=card.golden.score if card.golden else None,
        golden_drop_points=card.golden.drop_points if card.golden else None,
        golden_lost=card.golden.paired.lost if card.golden and card.golden.paired else None,
        golden_won=card.golden.paired.won if card.golden and card.golden.paired else None,
        cost_usd=card.cost_usd,
        cost_per_good_row_usd=card.cost_per_good_row_usd,
        cache_hit_rate=card.spend.cache_hit_rate if card.spend else None,
        source_rows=card.source_rows,
        **card.dispositions,
        unaccounted=card.unaccounted,
    )


def reasons_table(rows: Iterable[tuple[str, str, int]], first: str) -> dg.MetadataValue:
    """(kind, reason, rows) as a table; `first` names the first column."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord({first: kind, "reason": reason or "", "rows": n})
            for kind, reason, n in rows
        ],
        schema=dg.TableSchema(
            [
                dg.TableColumn(first, "string"),
                dg.TableColumn("reason", "string"),
                dg.TableColumn("rows", "int"),
            ]
        ),
    )


def checks_table(results: Iterable[dg.AssetCheckResult]) -> dg.MetadataValue:
    """What each check says, in one table: on the checks' own tab a click is needed for each."""
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "check": result.check_name or "",
                    "result": "pass" if result.passed else "fail",
                    "says": result.description or "",
                }
            )
            for result in results
        ],
        schema=dg.TableSchema(
            [
                dg.TableColumn("check", "string"),
                dg.TableColumn("result", "string"),
                dg.TableColumn("says", "string"),
            ]
        ),
    )
