"""Whole nights through `batch-pipeline run`, from and to places outside the warehouse."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import yaml
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, account_of, rows
from batch_pipeline_tests.object_store import SECRET_KEY, ObjectStore
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer

Ask = Callable[..., list[Any]]


@pytest.fixture
def ask(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Runs SQL on a database whose address SHOP_DB and SALES_DB hold; its table `tickets` has 12 rows of the day."""
    address = postgres.dsn(postgres.database())
    monkeypatch.setenv("SHOP_DB", address)
    monkeypatch.setenv("SALES_DB", address)
    with closing(psycopg.connect(address, autocommit=True)) as connection:

        def run(statement: str, *parameters: Any) -> list[Any]:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

        run("CREATE TABLE tickets (id text PRIMARY KEY, text text, label text, day date)")
        for row in rows(12):
            run("INSERT INTO tickets VALUES (%s, %s, %s, %s)", *row.values(), DAY)
        run("INSERT INTO tickets VALUES ('other', 'another day', 'bug', '2026-11-01')")
        yield run


@pytest.fixture
def declare(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Night]:
    """The workload `questions` with these sections in its defs.yaml."""

    def write(**sections: Any) -> Night:
        made = night()
        path = made.folder / "defs.yaml"
        declared = yaml.safe_load(path.read_text())
        declared["attributes"].update(sections)
        path.write_text(yaml.safe_dump(declared))
        monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
        return made

    return write


def call(*arguments: str) -> Result:
    done = CliRunner().invoke(main, list(arguments))
    for secret in (PASSWORD, SECRET_KEY):
        assert secret not in done.output + done.stderr
    return done


FROM_POSTGRES = {
    "key": "id",
    "url_env": "SHOP_DB",
    "query": "SELECT id, text, label FROM tickets WHERE day = {{ partition }}",
}
EXPECTED = [(row["id"], row["label"], 0, "claude-haiku-4-5-20251001", DAY) for row in rows(12)]


def test_a_night_from_a_postgres_into_a_postgres(
    simulate: Callable[..., Simulator], declare: Callable[..., Night], ask: Ask, tmp_path: Path
) -> None:
    simulator = simulate()
    made = declare(
        source=FROM_POSTGRES,
        promote={"to": "postgres", "url_env": "SALES_DB", "table": "sales.labels"},
    )
    estimate = call("estimate", "questions", "--date", DAY)
    assert estimate.exit_code == 0, estimate.stderr
    assert ask("SELECT 1 FROM pg_namespace WHERE nspname = 'sales'") == []

    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["source_rows"], card["coverage"], card["promoted_rows"]) == (12, 1.0, 12)
    table = "SELECT id, label, _tier, _model, _load FROM sales.labels ORDER BY id"
    assert ask(table) == EXPECTED
    (batch,) = account_of(simulator)["batches"]
    assert ask("SELECT DISTINCT _batch_id FROM sales.labels") == [(batch["id"],)]

    again = call("run", "questions", "--date", DAY, "--json")
    assert again.exit_code == 0
    assert len(account_of(simulator)["batches"]) == 1
    for leftover in (made.context.settings.state / "tmp").rglob("*"):
        assert "question number" not in leftover.read_bytes().decode(errors="replace")

    exported = call("export", "questions", "--date", DAY, "--to", str(tmp_path / "out.parquet"))
    assert exported.exit_code == 0, exported.stderr
    assert (
        duckdb.execute(
            f"SELECT id, label, _tier, _model, _load FROM '{tmp_path}/out.parquet' ORDER BY id"
        ).fetchall()
        == EXPECTED
    )


def test_a_rollback_from_the_command_line_empties_the_table_and_a_person_may_promote_again(
    simulate: Callable[..., Simulator], declare: Callable[..., Night], ask: Ask
) -> None:
    simulate()
    declare(promote={"to": "postgres", "url_env": "SALES_DB"})
    assert call("run", "questions", "--date", DAY).exit_code == 0
    undone = call("rollback", "questions", DAY, "--reason", "wrong prompt")
    assert undone.exit_code == 0, undone.stderr
    assert "public.questions (SALES_DB)" in undone.output + undone.stderr
    assert ask("SELECT count(*) FROM questions") == [(0,)]
    again = call("promote", "questions", "--date", DAY, "--reason", "it was right")
    assert again.exit_code == 0, again.stderr
    assert ask("SELECT count(*) FROM questions") == [(12,)]


def test_a_night_into_a_folder_of_an_object_store(
    simulate: Callable[..., Simulator],
    declare: Callable[..., Night],
    object_store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulate()
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    bucket = object_store.bucket("night-into-parquet")
    declare(promote={"to": "parquet", "path": f"{bucket}/labels"})
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    import s3fs  # type: ignore[import-untyped]

    remote = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    (key,) = remote.find("night-into-parquet/labels")
    with duckdb.connect() as connection:
        connection.register_filesystem(remote)
        assert (
            connection.execute(
                f"SELECT id, label, _tier, _model, _load FROM read_parquet('s3://{key}') ORDER BY id"
            ).fetchall()
            == EXPECTED
        )


def test_a_folder_of_the_workloads_own_is_readable_as_the_persons_other_files_are(
    simulate: Callable[..., Simulator], declare: Callable[..., Night]
) -> None:
    simulate()
    made = declare(promote={"to": "parquet", "path": "out"})
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    file = made.folder / "out" / f"{DAY}.parquet"
    assert file.stat().st_mode & 0o777 == (made.folder / "source.csv").stat().st_mode & 0o777
    assert duckdb.execute(f"SELECT count(*) FROM '{file}'").fetchall() == [(12,)]


@pytest.mark.parametrize(
    ("promote", "says"),
    [
        (
            {"to": "postgres", "url_env": "NOWHERE"},
            "promote.url_env: the environment variable NOWHERE is not set",
        ),
        (
            {"to": "postgres", "url_env": "SALES_DB", "table": "tickets"},
            "without the column '_tier'",
        ),
        ({"to": "parquet", "path": "source.csv/x"}, "cannot be written"),
    ],
)
def test_what_could_not_be_promoted_is_not_sent(
    simulate: Callable[..., Simulator],
    declare: Callable[..., Night],
    ask: Ask,
    promote: dict[str, str],
    says: str,
) -> None:
    simulator = simulate()
    declare(promote=promote)
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert account_of(simulator)["batches"] == []


def test_a_table_that_came_to_be_in_the_way_is_a_sentence_and_the_next_call_promotes(
    simulate: Callable[..., Simulator], declare: Callable[..., Night], ask: Ask
) -> None:
    """Once it was sent nothing is sent again: only the promotion is left to do."""
    simulator = simulate(turnaround_seconds=3)
    declare(promote={"to": "postgres", "url_env": "SALES_DB"})
    sent = call("run", "questions", "--date", DAY, "--max-wait", "0")
    assert sent.exit_code == 4, sent.stderr
    ask("CREATE TABLE questions (id integer)")
    failed = call("run", "questions", "--date", DAY, "--json")
    assert failed.exit_code not in (0, 3)
    assert "without the column '_tier'" in failed.stderr
    ask("DROP TABLE questions")
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    assert ask("SELECT count(*) FROM questions") == [(12,)]
    assert len(account_of(simulator)["batches"]) == 1
