"""Rows of a load that come from a table or a query of a Postgres."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from threading import Thread, Timer
from time import sleep
from typing import Any
from uuid import UUID

import duckdb
import psycopg
import pytest

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.rows.query import querying
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.source import check_source, read_source
from batch_pipeline.stages.source_check import SOURCE, open_source
from batch_pipeline.workload.spec import SourceSpec
from batch_pipeline_tests.night import DAY, Night, rows
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer, running

Ask = Callable[..., list[Any]]
SECRET = "my bank account is empty"


@pytest.fixture
def ask(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Runs SQL on a database of the test's own, whose address SHOP_DB holds."""
    address = postgres.dsn(postgres.database())
    monkeypatch.setenv("SHOP_DB", address.replace("postgresql:", "postgresql+psycopg:"))
    with closing(psycopg.connect(address, autocommit=True)) as connection:

        def run(statement: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def tickets(ask: Ask) -> str:
    """A table of 12 rows as `rows` makes them, and one of another day."""
    ask("CREATE TABLE tickets (id text PRIMARY KEY, text text, label text, day date)")
    for row in rows(12):
        ask("INSERT INTO tickets VALUES (%s, %s, %s, %s)", *row.values(), DAY)
    ask("INSERT INTO tickets VALUES ('other', 'another day', 'bug', '2026-11-01')")
    ask("CREATE SEQUENCE numbers")
    return "tickets"


def asking(made: Night, **source: Any) -> Night:
    """The same night, with its rows from the Postgres of SHOP_DB."""
    spec = made.context.workload.spec
    declared = SourceSpec(**{"key": "id", "url_env": "SHOP_DB", **source})
    workload = replace(made.context.workload, spec=spec.model_copy(update={"source": declared}))
    return Night(replace(made.context, workload=workload))


def read(made: Night, columns: str = "id, text, label") -> list[Any]:
    """The source rows of a load that was read."""
    read_source(made.context)
    file = made.context.folder(made.context.record()).source
    return duckdb.execute(
        f"SELECT {columns} FROM '{file}' WHERE NOT _golden ORDER BY id"
    ).fetchall()


def test_a_load_from_a_table_is_every_row_of_it(
    night: Callable[..., Night], ask: Ask, tickets: str
) -> None:
    made = asking(night(), table=tickets)
    found = read(made)
    assert found == ask("SELECT id, text, label FROM tickets ORDER BY id")
    assert made.context.record().source_rows == 13


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id, text, label FROM tickets WHERE day = {{ partition }}",
        "SELECT id, text, label FROM tickets WHERE day = '{{partition}}';",
        "WITH mine AS (SELECT * FROM tickets) TABLE mine EXCEPT SELECT * FROM mine WHERE day <> {{ partition }} -- so",
        "SELECT * FROM tickets WHERE to_char({{ partition }} - 1, 'DD') = '19' AND day = {{ partition }}",
    ],
)
def test_a_query_knows_the_loads_date(
    night: Callable[..., Night], tickets: str, query: str
) -> None:
    made = asking(night(), query=query)
    assert read(made) == [(row["id"], row["text"], row["label"]) for row in rows(12)]


def test_the_load_stays_as_it_was_read(
    simulate: Callable[..., Simulator], night: Callable[..., Night], ask: Ask, tickets: str
) -> None:
    simulate()
    made = asking(night(), table=tickets)
    made.submit()
    ask("DELETE FROM tickets")
    assert len(read(made)) == 13
    card = made.settle()
    assert card.source_rows == 13


def test_values_keep_what_they_say(night: Callable[..., Night], ask: Ask) -> None:
    ask("CREATE TYPE mood AS ENUM ('fine', 'sad')")
    ask("CREATE DOMAIN positive AS integer CHECK (value > 0)")
    ask(
        """CREATE TABLE kinds AS SELECT 'a' AS id, 'x' AS text, 7::smallint AS s, 2000000000 AS i, 9e18::bigint AS b,
        0.1::real AS r, 0.1::float8 AS d, true AS yes, 12.50::numeric(10, 2) AS price, 0.12345678901234567890::numeric
        AS n, 12345678901234567890::numeric(20) AS big, 'ab'::char(4) AS c, '007'::varchar(5) AS v,
        '2026-02-28'::date AS day, 'infinity'::date AS never, '2026-02-28 01:02:03.5+02'::timestamptz AS moment,
        '2026-02-28 01:02:03.5'::timestamp AS local, '01:02'::time AS clock, '1 day 02:00'::interval AS took,
        '6f0c5c1e-0000-4000-8000-000000000001'::uuid AS u, '{"a": [1, "ä"]}'::jsonb AS j, 'sad'::mood AS mood,
        3::positive AS p, ARRAY['x', NULL, '"{'] AS tags, ARRAY[1, 2]::smallint[] AS nums, ARRAY[0.5]::float8[] AS f,
        '{}'::text[] AS nothing, NULL::text[] AS unknown, '\\x00ff'::bytea AS raw, '10.0.0.1/8'::inet AS host,
        int4range(1, 5) AS span, '' AS empty"""
    )
    made = asking(night(golden=0), table="kinds")
    read_source(made.context)
    file = made.context.folder(made.context.record()).source
    found = duckdb.execute(f"SELECT * EXCLUDE (_row, _golden, _key, moment) FROM '{file}'")
    names = [described[0] for described in found.description or []]
    values = dict(zip(names, found.fetchall()[0], strict=True))
    assert values == {
        "id": "a",
        "text": "x",
        "s": 7,
        "i": 2_000_000_000,
        "b": 9_000_000_000_000_000_000,
        "r": pytest.approx(0.1),
        "d": 0.1,
        "yes": True,
        "price": Decimal("12.50"),
        "n": "0.12345678901234567890",
        "big": Decimal(12345678901234567890),
        "c": "ab",
        "v": "007",
        "day": date(2026, 2, 28),
        "never": date.max,
        "clock": time(1, 2),
        "local": datetime(2026, 2, 28, 1, 2, 3, 500_000),  # noqa: DTZ001 - it has none
        "took": "1 day 02:00:00",
        "u": UUID("6f0c5c1e-0000-4000-8000-000000000001"),
        "j": '{"a": [1, "ä"]}',
        "mood": "sad",
        "p": 3,
        "tags": ["x", None, '"{'],
        "nums": [1, 2],
        "f": [0.5],
        "nothing": [],
        "unknown": None,
        "raw": b"\0\xff",
        "host": "10.0.0.1/8",
        "span": "[1,5)",
        "empty": "",
    }
    (moment,) = duckdb.execute(f"SELECT epoch_ms(moment) FROM '{file}'").fetchall()[0]
    assert moment == 1772233323500


def test_hostile_names_and_text_are_names_and_text(night: Callable[..., Night], ask: Ask) -> None:
    text = '\'; DROP TABLE tickets; -- {{ partition }} $1 %s \\ "🙂" ' + "x" * 100_000
    ask('CREATE SCHEMA "Sch\'e.ma"')
    ask(
        'CREATE TABLE "Sch\'e.ma"."Ta""ble; --" ("I d" text, "text" text, "sel""ect $1" text)'.replace(
            "%", "%%"
        )
    )
    ask('INSERT INTO "Sch\'e.ma"."Ta""ble; --" VALUES (%s, %s, %s)', "a'b", text, "y")
    made = asking(night(golden=0), table='"Sch\'e.ma"."Ta""ble; --"', key="I d")
    read_source(made.context)
    file = made.context.folder(made.context.record()).source
    assert duckdb.execute(f'SELECT "I d", text, "sel""ect $1" FROM \'{file}\'').fetchall() == [
        ("a'b", text, "y")
    ]


def test_all_rows_are_of_one_snapshot(
    night: Callable[..., Night], ask: Ask, tickets: str, tmp_path: Path
) -> None:
    """Rows that come while it reads are not among them."""
    ask(
        "CREATE FUNCTION late() RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.05); RETURN 1; END $$"
    )
    made = asking(
        night(golden=0),
        query="SELECT a.id, a.text, a.label, late() AS late, (SELECT count(*) FROM tickets) AS n FROM tickets a",
    )

    def insert() -> None:
        reading = (
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%late()%' AND state = 'active'"
        )
        while not ask(reading):
            sleep(0.01)
        ask("INSERT INTO tickets VALUES ('new', 'new', 'bug', now())")

    other = Thread(target=insert)
    other.start()
    with querying(tmp_path) as connection:
        open_source(made.context.workload, DAY, connection)
        counts = connection.execute(f"SELECT count(*), min(n), max(n) FROM {SOURCE}").fetchall()
    other.join()
    assert counts == [(13, 13, 13)]


def test_a_look_before_sending_reads_no_column_but_the_key(
    night: Callable[..., Night], ask: Ask, tickets: str, tmp_path: Path
) -> None:
    made = asking(
        night(),
        query="SELECT id, text, label, 1 / (length(text) - length(text)) AS boom FROM tickets",
    )
    with querying(tmp_path) as connection:
        check_source(made.context.workload, DAY, connection)
    with pytest.raises(ConfigurationError, match="a row makes the query fail"):
        read_source(made.context)


# Refused in a sentence


@pytest.fixture
def refusal(
    night: Callable[..., Night], ask: Ask, tickets: str, tmp_path: Path
) -> Callable[..., str]:
    def run(*statements: str, reading: bool = False, **source: Any) -> str:
        for statement in statements:
            ask(statement)
        made = asking(night(), **source)
        with querying(tmp_path / "scratch") as connection, pytest.raises(PipelineError) as refused:
            if reading:
                read_source(made.context)
            check_source(made.context.workload, DAY, connection)
        sentence = str(refused.value)
        assert SECRET not in sentence
        assert PASSWORD not in sentence
        return sentence

    return run


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"table": "nosuch"}, "has no table or view 'nosuch' in the schema 'public'"),
        ({"table": "Tickets"}, "capitals count"),
        ({"table": "shop.tickets"}, "in the schema 'shop'"),
        ({"table": "tickets", "key": "ID"}, "source.key is 'ID', but the table tickets (SHOP_DB) has no such"),
        ({"query": "SELECT id FROM tickets"}, "names the column 'text', which the result of source.query"),
        ({"query": "SELECT nosuch FROM tickets"}, 'says: column "nosuch" does not exist'),
        ({"query": "SELEC 1"}, "does not run: the Postgres of SHOP_DB says: syntax error"),
        ({"query": "SELECT 1; DROP TABLE tickets"}, "syntax error"),
        ({"query": "DELETE FROM tickets RETURNING *"}, "syntax error"),
        ({"query": "SELECT id, text, label, {{ day }} FROM tickets"}, "only {{ partition }}"),
        ({"query": "SELECT id, text, text FROM tickets"}, "has a column 'text' twice"),
        ({"query": 'SELECT id, text, text AS "Text" FROM tickets'}, "'Text' and 'text', which SQL does not tell"),
        ({"query": "SELECT * FROM tickets WHERE false"}, "has no rows"),
        ({"query": "SELECT 'same' AS id, text, label FROM tickets"}, "is not unique in the result of source.query"),
        ({"query": "SELECT nullif(id, 'other') AS id, text, label FROM tickets"}, "is null in 1 of 13 rows"),
        ({"query": "SELECT ARRAY[id] AS id, text, label FROM tickets"}, "a key must be text, a number or a date"),
        ({"query": "SELECT id, text, label, 1 AS _row FROM tickets"}, "has a column '_row', a name that"),
        ({"query": "SELECT nextval('numbers')::text AS id, 'a' AS text"}, "cannot execute nextval() in a read-only transaction"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_as_declared_is_refused(
    refusal: Callable[..., str], source: dict[str, str], says: str
) -> None:
    assert says in refusal(**source)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (f"'{SECRET}'::text::integer", "a value cannot be taken or converted (SQLSTATE 22P02)"),
        ("1 / (length(text) - length(text))", "a row makes the query fail"),
        ("'NaN'::numeric(5, 2)", "odd (DECIMAL(5,2)) holds, for example, NaN"),
        ("'0044-03-15 BC'::date", "odd (DATE)"),
        ("ARRAY[[1, 2], [3, 4]]", "odd (BIGINT[])"),
    ],
)
def test_a_value_that_cannot_be_taken_over_is_not_repeated(
    refusal: Callable[..., str], column: str, says: str
) -> None:
    query = f"SELECT id, text, label, {column} AS odd FROM tickets"
    assert says in refusal(reading=True, query=query)


def test_rights_that_are_missing_are_named(
    refusal: Callable[..., str], ask: Ask, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (database,) = ask("SELECT current_database()")[0]
    ask(f"CREATE ROLE reader_{database} LOGIN PASSWORD 'own-not-for-logs'")
    monkeypatch.setenv(
        "SHOP_DB",
        f"postgresql://reader_{database}:own-not-for-logs@{postgres.host}:{postgres.port}/{database}",
    )
    said = refusal(table="tickets")
    assert "permission denied for table tickets" in said
    assert "own-not-for-logs" not in said


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "source.url_env: the environment variable SHOP_DB is not set"),
        ("postgresql://u:hidden@127.0.0.1:1/x", "does not answer"),
        ("hidden", "holds is no connection string"),
    ],
)
def test_a_postgres_that_is_not_there_is_a_sentence_without_its_password(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setenv("SHOP_DB", address)
    said = refusal(table="tickets")
    assert says in said
    assert "hidden" not in said


def test_a_server_that_goes_away_in_the_middle_leaves_nothing_and_is_asked_again(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as server:
        monkeypatch.setenv("SHOP_DB", server.dsn(server.database()))
        large = "SELECT i AS id, repeat('x', 1000) AS text, CASE WHEN i > {} THEN pg_sleep(3)::text END AS label FROM generate_series(1, 40000) AS i"
        made = asking(night(golden=0), query=large.format(30_000))
        timer = Timer(1.0, server.stop)
        timer.start()
        with pytest.raises(PipelineError, match=r"broke while the result of source\.query"):
            read_source(made.context)
        timer.join()
        assert made.ledger.load("questions", DAY) is None
        server.start()
        again = asking(made, query=large.format(40_000))
        assert read_source(again.context).source_rows == 40_000
