"""The API's own words for a refusal are shown where they can quote no row."""

from collections.abc import Callable, Sequence

import duckdb
import pytest

from batch_pipeline.rows import Place
from batch_pipeline.rows.query import querying
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.api_reasons import said_of_several
from batch_pipeline.stages.pilot import judge_pilot
from batch_pipeline_tests.night import Night, rows, write_csv
from batch_pipeline_tests.stages.watching import rows_of

MakeNight = Callable[..., Night]

HARMLESS = "messages: this request cannot be processed"


@pytest.fixture
def refused(simulate: Callable[..., Simulator], night: MakeNight) -> MakeNight:
    """A load of which the API has refused every request, for the same reason."""
    simulate(rows=[{"fault": "invalid_request"}])

    def make(**options: object) -> Night:
        made = night(**{"golden": 0, **options})
        made.settle()
        return made

    return make


def said(night: Night) -> str | None:
    with querying(night.context.scratch) as connection:
        return said_of_several(connection, night.context, night.context.record())


def say(night: Night, message: str) -> None:
    """Makes the API's reason the SQL expression `message` over the row's columns, in the files of results."""
    record = night.context.record()
    folder = night.context.folder(record)
    with duckdb.connect() as connection:
        for chunk in night.ledger.chunks(record):
            path = folder.results(chunk.chunk_id)
            found = connection.sql(
                f"SELECT r.* REPLACE ({message} AS error_message) FROM read_parquet(?) AS r "
                "JOIN read_parquet(?) AS s ON s._row = r.row",
                params=[str(path), str(folder.source)],
            ).to_arrow_table()
            connection.register("found", found)
            connection.execute(f"COPY found TO '{path}' (FORMAT parquet)")
            connection.unregister("found")


def results_of(night: Night) -> list[Place]:
    record = night.context.record()
    folder = night.context.folder(record)
    return [folder.results(chunk.chunk_id) for chunk in night.ledger.chunks(record)]


def quoting(column: str) -> str:
    return f"concat('messages.0.content: cannot read «', s.{column}, '»')"


def lines(*texts: str, **more: str) -> list[dict[str, str]]:
    return [{"id": f"r{n}", "text": text, **more} for n, text in enumerate(texts)]


def test_what_it_said_of_rows_that_differ_is_shown(refused: MakeNight) -> None:
    assert said(refused(count=2)) == HARMLESS


def test_what_it_said_of_one_row_is_not(refused: MakeNight) -> None:
    assert said(refused(count=1)) is None


def test_what_quotes_each_row_is_not(refused: MakeNight) -> None:
    made = refused(count=3)
    say(made, quoting("text"))
    assert said(made) is None


@pytest.mark.parametrize("dedupe", [True, False], ids=["asked once", "asked each"])
def test_rows_of_one_text_do_not_count_as_several(refused: MakeNight, dedupe: bool) -> None:
    made = refused(source=lines("my secret", "my secret", "another"), dedupe=dedupe)
    say(made, quoting("text"))
    assert said(made) is None


def test_golden_rows_of_one_text_do_not_count_as_several(
    simulate: Callable[..., Simulator], night: MakeNight
) -> None:
    simulate(rows=[{"fault": "invalid_request", "contains": "my secret"}])
    made = night(golden=2)
    write_csv(
        made.folder / "golden.csv",
        [{**row, "expected_label": "bug"} for row in lines("my secret", "my secret")],
    )
    made.settle()
    say(made, quoting("text"))
    assert said(made) is None


IN_USER = {"user": "{{ customer }}: {{ text }}"}
IN_SYSTEM = {"system": "You answer {{ customer }}.", "user": "{{ text }}", "cache": "none"}
IN_CODE = {"user": "{% if customer %}{{ row['customer'] | upper }}{% endif %} {{ text }}"}
SAME = ["Kim Lee", "Kim Lee", "Kim Lee"]


@pytest.mark.parametrize(
    ("prompt", "customers"),
    [
        (IN_USER, SAME),
        (IN_SYSTEM, SAME),
        (IN_CODE, SAME),
        (IN_USER, ["Kim Lee", "", "Kim Lee"]),
        (IN_USER, ["Kim Lee", "Kim Lee", "another"]),
    ],
    ids=["of the user message", "of the system text", "in code", "or none", "among the refused"],
)
def test_a_column_with_one_value_among_the_rows_may_be_what_it_quotes(
    simulate: Callable[..., Simulator],
    night: MakeNight,
    prompt: dict[str, str],
    customers: Sequence[str],
) -> None:
    """However much the texts differ, and whatever rows have that were not refused."""
    simulate(rows=[{"fault": "invalid_request", "contains": f"number {n} of"} for n in (0, 1)])
    source = [{**row, "customer": c} for row, c in zip(rows(3), customers, strict=False)]
    made = night(golden=0, source=source, prompt=prompt)
    made.settle()
    say(made, "'metadata: cannot read «Kim Lee»'")
    refusals = rows_of(results_of(made), "DISTINCT row", "error_type = 'invalid_request_error'")
    assert len(refusals) == 2
    assert said(made) is None


def test_a_column_that_the_prompt_does_not_read_may_have_one_value(refused: MakeNight) -> None:
    made = refused(source=lines("one question", "another question", channel="mail"))
    assert said(made) == HARMLESS


def test_of_what_can_be_shown_the_commonest_is(refused: MakeNight) -> None:
    """Three rows of one text are passed over, however many they are."""
    texts = ["secret"] * 3 + ["first", "second", "third", "fourth", "fifth"]
    made = refused(source=lines(*texts), dedupe=False)
    often, rarely = "('first', 'second', 'third')", "('fourth', 'fifth')"
    say(
        made,
        f"CASE WHEN s.text IN {often} THEN 'z.' WHEN s.text IN {rarely} THEN 'a.' ELSE {quoting('text')} END",
    )
    assert said(made) == "z"


def test_of_a_sensitive_workload_nothing_is_shown(refused: MakeNight) -> None:
    assert said(refused(count=2, sensitive=True)) is None


def test_a_pilot_says_how_many_were_refused_and_quotes_none_of_them(refused: MakeNight) -> None:
    made = refused(source=lines("my secret", *["my secret"] * 8), dedupe=False, pilot={"rows": 6})
    say(made, quoting("text"))
    (problem,) = judge_pilot(made.context, made.context.record()).problems
    assert problem.endswith("; the API refused 6 as invalid requests")
