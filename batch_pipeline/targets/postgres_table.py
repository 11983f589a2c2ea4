"""The promoted table in a user's Postgres, and the two beside it: what is there, what is missing, what is in the way.

In the table's schema:
    _promotions     a line per promotion: of which load, which rows, when, on whose word, and whether it was rolled back
    _covered_rows   the rows of promoted loads that a newer load covers, for when that one is rolled back
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.postgres.session import Session
from batch_pipeline.rows.query import quoted
from batch_pipeline.targets.postgres_columns import Column
from batch_pipeline.workload.data_file import listed

PROVENANCE = ("_tier", "_model", "_batch_id", "_load")
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")

_PROMOTIONS = """(
    table_name text NOT NULL, workload text NOT NULL, load text NOT NULL, fingerprint text NOT NULL,
    rows bigint NOT NULL, override_reason text, columns text[] NOT NULL, promoted_at timestamptz NOT NULL,
    rolled_back_at timestamptz, rolled_back_by text, rollback_reason text
)"""
_COVERED = """(
    table_name text NOT NULL, load text NOT NULL, key text NOT NULL, row jsonb NOT NULL,
    PRIMARY KEY (table_name, key, load)
)"""


@dataclass(frozen=True)
class PromotedTable:
    """Names for SQL of the table and those beside it."""

    schema: str
    table: str

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def promotions(self) -> str:
        return f"{quoted(self.schema)}._promotions"

    @property
    def covered(self) -> str:
        return f"{quoted(self.schema)}._covered_rows"

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Fit:
    """The statements that bring table and columns together, and the columns that earlier contracts had."""

    statements: list[str]
    former: list[str]


def fit(
    server: Session, table: PromotedTable, workload: str, key: str, columns: Sequence[Column]
) -> Fit:
    """Changes nothing.

    Raises ConfigurationError for what only a person can mend: rights, types, a table that is somebody else's.
    """
    where = f"{table} in {server.where}"
    statements = _fit_schema(server, table)
    fresh = bool(statements)
    if not _holds(server, "SELECT has_database_privilege(current_database(), 'TEMP')"):
        raise _needs(where, "the right to make temporary tables", "GRANT TEMPORARY ON DATABASE")
    for name, shape in (("_promotions", _PROMOTIONS), ("_covered_rows", _COVERED)):
        if fresh or _oid(server, table.schema, name) is None:
            statements.append(f"CREATE TABLE IF NOT EXISTS {quoted(table.schema)}.{name} {shape}")
        else:
            _check_rights(server, PromotedTable(table.schema, name))
    oid = None if fresh else _oid(server, table.schema, table.table)
    former: list[str] = []
    if not fresh and _oid(server, table.schema, "_promotions") is not None:
        former = _former(server, table, workload, columns)
    if oid is None:
        statements += _created(table, key, columns)
    else:
        statements += _fit_columns(server, table, oid, key, columns)
    if statements and not fresh:
        _check_may_create(server, table, statements)
    return Fit(statements, former)


def _fit_schema(server: Session, table: PromotedTable) -> list[str]:
    if not server.rows("SELECT 1 FROM pg_namespace WHERE nspname = $1", [table.schema]):
        if not _holds(server, "SELECT has_database_privilege(current_database(), 'CREATE')"):
            raise ConfigurationError(
                f"promote.table: {server.where} has no schema {table.schema!r}, and the account may not make one; make "
                "it, and grant USAGE and CREATE on it."
            )
        return [f"CREATE SCHEMA IF NOT EXISTS {quoted(table.schema)}"]
    if not _holds(server, "SELECT has_schema_privilege($1, 'USAGE')", table.schema):
        raise _needs(
            f"the schema {table.schema!r} in {server.where}", "USAGE", "GRANT USAGE ON SCHEMA"
        )
    return []


def _former(
    server: Session, table: PromotedTable, workload: str, columns: Sequence[Column]
) -> list[str]:
    """Columns that earlier promotions wrote and this one has not; others of the table are somebody else's."""
    owners = server.rows(
        f"SELECT DISTINCT workload FROM {table.promotions} WHERE table_name = $1 AND workload <> $2",
        [table.table, workload],
    )
    if owners:
        raise ConfigurationError(
            f"promote.table: {table} in {server.where} holds what the workload {owners[0][0]} promoted; give each "
            "workload a table of its own."
        )
    written = server.rows(
        f"SELECT DISTINCT unnest(columns) FROM {table.promotions} WHERE table_name = $1 ORDER BY 1",
        [table.table],
    )
    present = {column.name for column in columns}
    held = held_columns(server, table)
    return [name for (name,) in written if name not in present and name in held]


def held_columns(server: Session, table: PromotedTable) -> dict[str, tuple[str, bool]]:
    """The table's columns in their order: the type of each, and whether it demands a value; none without a table."""
    found = server.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull AND NOT atthasdef "
        "AND attidentity = '' FROM pg_attribute "
        "WHERE attrelid = $1::bigint::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [_oid(server, table.schema, table.table)],
    )
    return {row[0]: (row[1], row[2]) for row in found}


def _created(table: PromotedTable, key: str, columns: Sequence[Column]) -> list[str]:
    parts = [
        f"{quoted(c.name)} {c.kind}{' NOT NULL' if c.name == '_load' else ''}" for c in columns
    ]
    return [
        f"CREATE TABLE IF NOT EXISTS {table.sql} ({', '.join(parts)}, PRIMARY KEY ({quoted(key)}))",
        f"CREATE INDEX ON {table.sql} (_load)",
    ]


def _fit_columns(
    server: Session, table: PromotedTable, oid: int, key: str, columns: Sequence[Column]
) -> list[str]:
    where = f"{table} in {server.where}"
    _check_rights(server, table)
    held = held_columns(server, table)
    if foreign := [name for name in (key, *PROVENANCE) if name not in held]:
        raise ConfigurationError(
            f"promote.table: {where} is there already, without the column {foreign[0]!r} that a promoted table has, so "
            "it is not one of ours; name another table, which is then made."
        )
    missing: list[str] = []
    for column in columns:
        if column.name not in held:
            missing.append(
                f"ALTER TABLE {table.sql} ADD COLUMN {quoted(column.name)} {column.kind}"
            )
        elif not column.fits(held[column.name][0]):
            raise ConfigurationError(
                f"The table {where} holds {column.name} as {held[column.name][0]} and the load now has {column.kind}; "
                "rename the field, or migrate the table's column first."
            )
    ours = {column.name for column in columns}
    needed = [name for name, (_, demanded) in held.items() if demanded and name not in ours]
    if needed:
        raise ConfigurationError(
            f"promote.table: {where} demands a value in {listed(needed)}, of which a load knows nothing; give the "
            "column a default, or let it be null."
        )
    if missing and not _holds(
        server,
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = $1::bigint::oid",
        oid,
    ):
        raise ConfigurationError(
            f"promote.table: {where} lacks a column, and the account is not its owner; run: {missing[0]}."
        )
    return missing


def _check_rights(server: Session, table: PromotedTable) -> None:
    oid = _oid(server, table.schema, table.table)
    kind = server.rows("SELECT relkind::text FROM pg_class WHERE oid = $1::bigint::oid", [oid])
    if kind[0][0] not in ("r", "p"):
        raise ConfigurationError(
            f"promote.table: {table} in {server.where} is no table, but a view or the like; name another."
        )
    for right in _RIGHTS:
        if not _holds(server, f"SELECT has_table_privilege($1::bigint::oid, '{right}')", oid):
            raise _needs(f"{table} in {server.where}", right, "GRANT")


def _check_may_create(server: Session, table: PromotedTable, statements: Sequence[str]) -> None:
    making = any(statement.startswith("CREATE TABLE") for statement in statements)
    if making and not _holds(server, "SELECT has_schema_privilege($1, 'CREATE')", table.schema):
        raise _needs(
            f"the schema {table.schema!r} in {server.where}, to make {table} and the tables beside it",
            "CREATE",
            "GRANT CREATE ON SCHEMA",
        )


def _needs(what: str, right: str, how: str) -> ConfigurationError:
    return ConfigurationError(
        f"promote.to: postgres: the account lacks {right} on {what}; let its owner give it ({how} ...)."
    )


def _oid(server: Session, schema: str, name: str) -> int | None:
    # Anew each time: another promotion may have made it since.
    found = server.rows(
        "SELECT c.oid::bigint FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = $2",
        [schema, name],
    )
    return int(found[0][0]) if found else None


def _holds(server: Session, question: str, *parameters: str | int | None) -> bool:
    found = server.rows(question, parameters)
    return bool(found and found[0][0])
