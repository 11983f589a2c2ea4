"""Promotion into a Postgres table: whole loads or nothing, the newest load's answer, rows as they are."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.targets.postgres import PostgresTarget
from batch_pipeline.targets.warehouse import WarehouseTarget
from batch_pipeline.warehouse import NotPromotedHereError, Promotion, Rollback, warehouse
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer
from batch_pipeline_tests.targets.promoting import FIELDS, LOADS, Desk, Model

Ask = Callable[..., list[Any]]
SECRET = "my bank account is empty"


@pytest.fixture
def ask(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Runs SQL on a database of the test's own, whose address SALES_DB holds."""
    address = postgres.dsn(postgres.database())
    monkeypatch.setenv("SALES_DB", address)
    with closing(psycopg.connect(address, autocommit=True)) as connection:

        def run(statement: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def desk(ask: Ask, tmp_path: Path) -> Desk:
    return Desk(PostgresTarget("SALES_DB", "public", "questions"), tmp_path)


def at(tmp_path: Path, table: str, schema: str = "public") -> Desk:
    return Desk(PostgresTarget("SALES_DB", schema, table), tmp_path)


def test_the_first_promotion_makes_the_table_with_its_key(desk: Desk, ask: Ask) -> None:
    done = desk.promote("2026-01-01", [("a", "x"), ("b", "y")])
    assert done == Promotion("public.questions (SALES_DB)", 2, 2, 0, 0)
    assert ask("SELECT * FROM questions ORDER BY id") == [
        ("a", "x", 0, "m", "b", "2026-01-01"),
        ("b", "y", 0, "m", "b", "2026-01-01"),
    ]
    assert ask("SELECT indexdef FROM pg_indexes WHERE indexname = 'questions_pkey'")[0][0].endswith(
        "(id)"
    )


def test_a_promotion_counts_what_it_wrote_removed_and_left_to_newer_loads(
    desk: Desk, ask: Ask
) -> None:
    desk.promote("2026-01-02", [("a", "x"), ("b", "x"), ("c", "x")])
    desk.promote("2026-01-03", [("a", "y")])
    done = desk.promote("2026-01-02", [("a", "z"), ("b", "x"), ("d", "x")])
    assert (done.rows, done.written, done.removed, done.superseded) == (3, 1, 1, 1)
    assert ask("SELECT id, label, _load FROM questions ORDER BY id") == [
        ("a", "y", "2026-01-03"),
        ("b", "x", "2026-01-02"),
        ("d", "x", "2026-01-02"),
    ]


def test_promoting_again_touches_no_row(desk: Desk, ask: Ask) -> None:
    desk.promote("2026-01-02", [("a", "x"), ("b", "x")])
    desk.promote("2026-01-01", [("a", "w")])
    versions = "SELECT xmin::text FROM questions UNION ALL SELECT xmin::text FROM _covered_rows"
    before = ask(versions)
    for load, rows in (("2026-01-02", [("a", "x"), ("b", "x")]), ("2026-01-01", [("a", "w")])):
        assert desk.promote(load, rows).written == 0
    assert ask(versions) == before
    assert ask("SELECT count(*) FROM _promotions") == [(2,)]


def test_a_load_of_no_rows_empties_what_it_had_promoted(desk: Desk, ask: Ask) -> None:
    desk.promote("2026-01-01", [("a", "x")])
    assert desk.promote("2026-01-01", []).removed == 1
    assert ask("SELECT * FROM questions") == []


def test_history_says_what_was_promoted_on_whose_word_and_what_was_rolled_back(
    desk: Desk, ask: Ask
) -> None:
    for fingerprint in ("one", "one", "two"):
        desk.promote(
            "2026-01-01", [("a", "x")], fingerprint=fingerprint, override_reason="it's urgent"
        )
    desk.roll_back("2026-01-01", reason="it's \0 wrong")
    desk.promote("2026-01-01", [("a", "x")], fingerprint="two")
    assert ask(
        "SELECT table_name, workload, load, fingerprint, rows, override_reason, columns, rolled_back_by, "
        "rollback_reason FROM _promotions ORDER BY promoted_at"
    ) == [
        (
            *("questions", "questions", "2026-01-01", fingerprint, 1, reason),
            ["id", "label", "_tier", "_model", "_batch_id", "_load"],
            *end,
        )
        for fingerprint, reason, end in (
            ("one", "it's urgent", ("ada", "it's \ufffd wrong")),
            ("two", "it's urgent", ("ada", "it's \ufffd wrong")),
            ("two", None, (None, None)),
        )
    ]


# Rows as they are


def test_every_type_of_a_contract_is_promoted_as_it_is(desk: Desk, ask: Ask) -> None:
    fields = (
        "id VARCHAR, n BIGINT, x DOUBLE, yes BOOLEAN, tags VARCHAR[], counts BIGINT[], shares DOUBLE[], "
        "flags BOOLEAN[]"
    )
    rows = [
        ("a", 2**63 - 1, 0.1 + 0.2, True, ["x", None, 'a"b,{'], [1, None], [0.5], [True, False]),
        ("b", -(2**63), -1e308, False, [], [], [], []),
        ("c", None, None, None, None, None, None, None),
    ]
    desk.promote("2026-01-01", rows, fields)
    named = "id, n, x, yes, tags, counts, shares, flags"
    assert ask(f"SELECT {named} FROM questions ORDER BY id") == rows
    assert desk.promote("2026-01-01", rows, fields).written == 0
    desk.promote("2026-01-02", [(key, *[None] * 7) for key in "abc"], fields)
    desk.roll_back("2026-01-02")
    assert ask(f"SELECT {named} FROM questions ORDER BY id") == rows


@pytest.mark.parametrize(
    ("kind", "value", "held"),
    [
        ("BIGINT", "42", "bigint"),
        ("UBIGINT", "18446744073709551615", "numeric(20,0)"),
        ("USMALLINT", "65535", "integer"),
        ("TINYINT", "-1", "smallint"),
        ("DECIMAL(12,3)", "1.500", "numeric(12,3)"),
        ("DATE", "2026-02-28", "date"),
        ("TIMESTAMP", "2026-02-28 01:02:03.456789", "timestamp without time zone"),
        ("TIMESTAMP WITH TIME ZONE", "2026-02-28 01:02:03+00", "timestamp with time zone"),
        ("TIME", "01:02:03.5", "time without time zone"),
        ("UUID", "6f0c5c1e-0000-4000-8000-000000000001", "uuid"),
        ("DOUBLE", "0.1", "double precision"),
        ("ENUM('a', 'b')", "a", "text"),
    ],
)
def test_a_key_of_any_type_is_a_key_there(
    desk: Desk, ask: Ask, kind: str, value: str, held: str
) -> None:
    fields = f"id {kind}, label VARCHAR"
    desk.promote("2026-01-01", [(value, "x")], fields)
    desk.promote("2026-01-02", [(value, "y")], fields)
    assert ask("SELECT id::text, label, _load FROM questions") == [(value, "y", "2026-01-02")]
    assert ask(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'questions'::regclass AND attname = 'id'"
    ) == [(held,)]
    assert desk.promote("2026-01-02", [(value, "y")], fields).written == 0
    desk.roll_back("2026-01-02")
    assert ask("SELECT id::text, label FROM questions") == [(value, "x")]


def test_hostile_text_is_text(desk: Desk, ask: Ask) -> None:
    texts = [
        "'; DROP TABLE questions; --",
        'a"b\\n\t\r\n',
        "🙂‍↔️ \u202e",
        "x" * 1_000_000,
        "",
        "\\N",
    ]
    rows = [(f"{n}'\"; $1 %s", text) for n, text in enumerate(texts)]
    desk.promote("2026-01-01", rows)
    assert ask("SELECT id, label FROM questions ORDER BY id") == rows
    desk.promote("2026-01-02", [(key, "new") for key, _ in rows])
    desk.roll_back("2026-01-02")
    assert ask("SELECT id, label FROM questions ORDER BY id") == rows


def test_a_nul_character_becomes_the_one_for_what_cannot_be_shown(desk: Desk, ask: Ask) -> None:
    fields = "id VARCHAR, label VARCHAR, tags VARCHAR[]"
    rows = [("a", "x\0y", ["\0", None, "z"])]
    desk.promote("2026-01-01", rows, fields)
    assert ask("SELECT label, tags FROM questions") == [("x\ufffdy", ["\ufffd", None, "z"])]
    assert desk.promote("2026-01-01", rows, fields).written == 0


def test_names_that_sql_would_trip_over_are_fine(ask: Ask, tmp_path: Path) -> None:
    odd = at(tmp_path, 'Tab"le; DROP', "Sch'ema .x")
    fields = 'id VARCHAR, "sel""ect" VARCHAR, "Ünï $1 %s" VARCHAR'
    odd.promote("2026-01-01", [("a", "x", "y")], fields)
    odd.promote("2026-01-02", [("a", "z", "z")], fields)
    assert odd.roll_back("2026-01-02") is not None
    found = ask(
        'SELECT "sel""ect", "Ünï $1 %s" FROM "Sch\'ema .x"."Tab""le; DROP"'.replace("%", "%")
    )
    assert found == [("x", "y")]


# Columns that come and go


def test_a_field_that_the_contract_gains_becomes_a_column(desk: Desk, ask: Ask) -> None:
    desk.promote("2026-01-01", [("a", "x"), ("b", "x")])
    wider = f"{FIELDS}, score DOUBLE"
    desk.promote("2026-01-02", [("b", "y", 0.5), ("c", "y", 0.7)], wider)
    named = "SELECT id, label, score FROM questions ORDER BY id"
    assert ask(named) == [("a", "x", None), ("b", "y", 0.5), ("c", "y", 0.7)]
    desk.roll_back("2026-01-02")
    assert ask(named) == [("a", "x", None), ("b", "x", None)]


def test_a_field_that_the_contract_loses_is_null_where_a_newer_load_answers(
    desk: Desk, ask: Ask
) -> None:
    desk.promote("2026-01-01", [("a", "x", 0.5), ("b", "x", 0.5)], f"{FIELDS}, score DOUBLE")
    desk.promote("2026-01-02", [("b", "x")])
    named = "SELECT id, score FROM questions ORDER BY id"
    assert ask(named) == [("a", 0.5), ("b", None)]
    desk.roll_back("2026-01-02")
    assert ask(named) == [("a", 0.5), ("b", 0.5)]


def test_a_column_that_somebody_else_added_is_left_alone(desk: Desk, ask: Ask) -> None:
    desk.promote("2026-01-01", [("a", "x")])
    ask(
        "ALTER TABLE questions ADD COLUMN note text DEFAULT 'new', ADD twice text GENERATED ALWAYS AS (id || id) STORED"
    )
    ask("UPDATE questions SET note = 'seen'")
    desk.promote("2026-01-02", [("a", "y"), ("b", "y")])
    named = "SELECT id, label, note, twice FROM questions ORDER BY id"
    assert ask(named) == [("a", "y", "seen", "aa"), ("b", "y", "new", "bb")]
    desk.roll_back("2026-01-02")
    assert ask(named) == [("a", "x", "seen", "aa")]


# Refused before anything is sent, and again before anything is written

COLUMNS = {"id": "VARCHAR", "label": "VARCHAR"}


def refusal(desk: Desk, **changes: Any) -> str:
    """The sentence, the same when it is looked at and when it is promoted; the table is as it was."""
    with pytest.raises(ConfigurationError) as looked:
        desk.check(COLUMNS, **changes)
    with pytest.raises(ConfigurationError) as promoted:
        desk.promote("2026-01-05", [("a", "x")], **changes)
    assert str(looked.value) == str(promoted.value)
    assert PASSWORD not in str(looked.value)
    return str(looked.value)


def test_a_target_that_is_not_there_yet_passes_and_a_look_leaves_nothing(
    desk: Desk, ask: Ask, tmp_path: Path
) -> None:
    desk.check(COLUMNS)
    at(tmp_path, "t", "new_schema").check(COLUMNS)
    assert ask("SELECT 1 FROM pg_tables WHERE schemaname IN ('public', 'new_schema')") == []
    assert ask("SELECT 1 FROM pg_namespace WHERE nspname = 'new_schema'") == []


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("label integer", "holds label as integer and the load now has text"),
        ("label varchar(10)", "holds label as character varying(10) and the load"),
        ("label text, due date NOT NULL", "demands a value in due"),
    ],
)
def test_a_table_that_the_load_does_not_fit_is_refused(
    desk: Desk, ask: Ask, held: str, says: str
) -> None:
    ask(
        f"CREATE TABLE questions (id text, {held}, _tier integer, _model text, _batch_id text, _load text)"
    )
    assert says in refusal(desk)


def test_a_table_that_is_not_ours_is_left_alone(desk: Desk, ask: Ask) -> None:
    ask("CREATE TABLE questions (id text, label text)")
    assert "is there already, without the column '_tier'" in refusal(desk)


def test_a_view_is_refused(desk: Desk, ask: Ask) -> None:
    ask("CREATE VIEW questions AS SELECT 1 AS id")
    assert "is no table, but a view" in refusal(desk)


def test_rows_that_no_load_promoted_are_not_overwritten(desk: Desk, ask: Ask) -> None:
    ask(
        "CREATE TABLE questions (id varchar, label text, _tier integer, _model text, _batch_id text, _load text)"
    )
    ask("INSERT INTO questions VALUES ('a', 'mine')")
    desk.check(COLUMNS)
    desk.promote("2026-01-01", [("b", "x")])
    with pytest.raises(PipelineError, match="1 rows with a key of the load that no load promoted"):
        desk.promote("2026-01-02", [("a", "x")])
    assert ask("SELECT id, label FROM questions ORDER BY id") == [("a", "mine"), ("b", "x")]


def test_a_table_belongs_to_one_workload(desk: Desk) -> None:
    desk.promote("2026-01-01", [("a", "x")])
    assert "holds what the workload questions promoted" in refusal(desk, workload="others")


@pytest.mark.parametrize(
    ("rights", "says"),
    [
        ([], "lacks USAGE on the schema 'sales'"),
        (["GRANT USAGE ON SCHEMA sales TO {role}"], "lacks CREATE on the schema 'sales'"),
        (
            ["GRANT CREATE, USAGE ON SCHEMA sales TO {role}", "CREATE TABLE sales.questions ()"],
            "lacks SELECT on sales.questions",
        ),
    ],
)
def test_rights_that_are_missing_are_named(
    ask: Ask,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rights: list[str],
    says: str,
) -> None:
    (database,) = ask("SELECT current_database()")[0]
    role = f"role_{database}"
    ask(f"CREATE ROLE {role} LOGIN PASSWORD 'own-not-for-logs'")
    ask("CREATE SCHEMA sales")
    for right in rights:
        ask(right.format(role=role))
    address = f"postgresql://{role}:own-not-for-logs@{postgres.host}:{postgres.port}/{database}"
    monkeypatch.setenv("SALES_DB", address)
    sentence = refusal(at(tmp_path, "questions", "sales"))
    assert says in sentence
    assert "own-not-for-logs" not in sentence


def test_an_account_that_may_only_write_rows_is_enough_for_tables_that_are_there(
    ask: Ask, desk: Desk, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.promote("2026-01-01", [("a", "x")])
    (database,) = ask("SELECT current_database()")[0]
    role = f"writer_{database}"
    ask(f"CREATE ROLE {role} LOGIN PASSWORD 'own'")
    ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    monkeypatch.setenv(
        "SALES_DB", f"postgresql://{role}:own@{postgres.host}:{postgres.port}/{database}"
    )
    desk.check(COLUMNS)
    desk.promote("2026-01-02", [("a", "y")])
    desk.roll_back("2026-01-02")
    assert ask("SELECT label FROM questions") == [("x",)]
    with pytest.raises(ConfigurationError, match='ADD COLUMN "score" double precision'):
        desk.check({**COLUMNS, "score": "DOUBLE"})


@pytest.mark.parametrize(
    "key", ["x" * 2_001, "a\0b"], ids=["longer than an index entry", "with a NUL character"]
)
def test_a_key_that_postgres_cannot_take_is_refused_before_it_is_paid_for(
    desk: Desk, key: str
) -> None:
    with pytest.raises(ConfigurationError, match="1 values that Postgres cannot take for a key"):
        desk.check(COLUMNS, keys=["a", key])
    desk.check(COLUMNS, keys=["a", "x" * 2_000])


def test_a_key_of_2000_bytes_is_promoted(desk: Desk, ask: Ask) -> None:
    key = "".join(chr(0x4E00 + n * 31) for n in range(666)) + "ab"
    assert len(key.encode()) == 2_000
    desk.promote("2026-01-01", [(key, "x")])
    desk.promote("2026-01-02", [(key, "y")])
    desk.roll_back("2026-01-02")
    assert ask("SELECT id, label FROM questions") == [(key, "x")]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "the environment variable SALES_DB is not set"),
        ("postgresql://u:hidden@127.0.0.1:1/x", "does not answer"),
        ("postgresql://u:hidden@nosuch.invalid/x", "host of the Postgres of SALES_DB is not known"),
        ("postgresql://u:hid den@@h:abc/x", "holds is no connection string"),
        ("hidden", "holds is no connection string"),
    ],
)
def test_a_postgres_that_is_not_there_is_a_sentence_without_its_password(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setenv("SALES_DB", address)
    with pytest.raises(PipelineError, match=r"promote\.url_env") as refused:
        desk.check(COLUMNS)
    assert says in str(refused.value)
    assert "hid" not in str(refused.value)


def test_a_password_that_is_refused_is_a_sentence(
    desk: Desk, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SALES_DB", postgres.dsn("postgres").replace(PASSWORD, "wrong-one"))
    with pytest.raises(ConfigurationError, match="refuses the account") as refused:
        desk.check(COLUMNS)
    assert "wrong-one" not in str(refused.value)
    monkeypatch.setenv("SALES_DB", postgres.dsn("nosuch"))
    with pytest.raises(ConfigurationError, match="has no database of that name"):
        desk.check(COLUMNS)


# Undone


def test_a_rollback_gives_back_what_the_load_covered(desk: Desk, ask: Ask) -> None:
    desk.promote("2026-01-01", [("a", "1"), ("b", "1")])
    desk.promote("2026-01-02", [("a", "2"), ("b", "2"), ("c", "2")])
    desk.promote("2026-01-03", [("b", "3")])
    done = desk.roll_back("2026-01-02")
    assert done == Rollback("public.questions (SALES_DB)", rows=3, removed=1, restored=1, kept=1)
    assert ask("SELECT id, label, _load FROM questions ORDER BY id") == [
        ("a", "1", "2026-01-01"),
        ("b", "3", "2026-01-03"),
    ]
    assert desk.roll_back("2026-01-02") is None


def test_a_table_that_never_heard_of_the_load_is_not_the_one_it_was_promoted_to(
    desk: Desk,
) -> None:
    with pytest.raises(NotPromotedHereError, match=r"promote\.url_env"):
        desk.roll_back("2026-01-01")
    desk.promote("2026-01-02", [("a", "x")])
    with pytest.raises(NotPromotedHereError):
        desk.roll_back("2026-01-01")


STEP = st.tuples(
    st.sampled_from(LOADS),
    st.none() | st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xy"), max_size=4),
)
STEPS = st.lists(STEP, min_size=1, max_size=8)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_any_promotions_and_rollbacks_leave_what_the_loads_say_as_in_the_warehouse(
    desk: Desk, ask: Ask, tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    """A step without answers rolls its load back."""
    ask("DROP TABLE IF EXISTS questions, _promotions, _covered_rows")
    model = Model()
    other = Desk(WarehouseTarget("questions"), tmp_path_factory.mktemp("warehouse"))
    for load, answers in steps:
        if answers is None:
            expected = model.roll_back(load)
            done, twin = (each.roll_back_if_known(load) for each in (desk, other))
            assert [d and (d.rows, d.removed, d.restored, d.kept) for d in (done, twin)] == [
                expected and (expected.rows, expected.removed, expected.restored, expected.kept)
            ] * 2
        else:
            model.promote(load, answers)
            promoted, same = (each.promote(load, list(answers.items())) for each in (desk, other))
            assert (promoted.rows, promoted.written, promoted.removed, promoted.superseded) == (
                same.rows,
                same.written,
                same.removed,
                same.superseded,
            )
        assert (
            ask("SELECT id, label, _load FROM questions ORDER BY id") == model.table
            if (model.loads)
            else True
        )
    with warehouse(other.folder) as connection:
        if any(answers is not None for _, answers in steps):
            assert (
                connection.execute(
                    "SELECT id, label, _load FROM promoted.questions ORDER BY id"
                ).fetchall()
                == ask("SELECT id, label, _load FROM questions ORDER BY id")
                == model.table
            )
