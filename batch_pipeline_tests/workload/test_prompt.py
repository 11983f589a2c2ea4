"""The prompt: which columns a template reads, what it makes of a row, and which templates are refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.prompt import Prompt, literal_text
from batch_pipeline.workload.spec import PromptSpec


def prompt(user: str) -> Prompt:
    return Prompt.load(PromptSpec(user=user), Path())


def refusal(user: str, folder: Path = Path(), **more: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        Prompt.load(PromptSpec(user=user, **more), folder)
    return str(refused.value)


@pytest.mark.parametrize(
    ("user", "row", "message"),
    [
        ("Subject: {{ subject }}\n\n{{ body }}", {"subject": "a", "body": "b"}, "Subject: a\n\nb"),
        ("{{ text }}", {"text": None}, ""),
        ("{{ text }}", {"text": 7}, "7"),
        ("{{ text }}", {"text": True}, "True"),
        ("{{ text }}", {"text": "{{ 7 * 7 }} <b>"}, "{{ 7 * 7 }} <b>"),
        ("{{ row['my column'] }}!", {"my column": "a"}, "a!"),
        ('{{ row["it\\u0027s"] }}', {"it's": "a"}, "a"),
        ("{{ row.items }}", {"items": "a"}, "a"),
        ("{{ row['row'] }}", {"row": "a"}, "a"),
        ("{{ row }}", {"row": "a"}, "a"),
        ("{{ text | upper }}", {"text": "a"}, "A"),
        ("{{ row['my column'] | upper }}{{ b }}", {"my column": "a", "b": 1}, "A1"),
        ("{{ row.items | upper }}", {"items": "a"}, "A"),
        ("{{ row.row | upper }}", {"row": "a"}, "A"),
        ("{% if plan == 'pro' %}!{% endif %}{{ text }}", {"plan": "pro", "text": "a"}, "!a"),
        ("{% for tag in tags %}{{ tag }};{% endfor %}", {"tags": ["a", None]}, "a;;"),
        ("{% for row in lines %}{{ row['x'] }}{% endfor %}", {"lines": [{"x": 1}]}, "1"),
        ("{{ place.city }}", {"place": {"city": "Oslo"}}, "Oslo"),
        ("{{ range }}", {"range": "a"}, "a"),
        ("{{ text }}\n", {"text": "a"}, "a"),
    ],
)
def test_a_template_reads_just_the_columns_it_names(
    user: str, row: dict[str, Any], message: str
) -> None:
    loaded = prompt(user)
    assert loaded.columns == tuple(sorted(row))
    assert loaded.render(row) == message


@given(
    st.lists(
        st.one_of(
            st.text(alphabet=st.characters(exclude_characters="{}%#\r\n"), max_size=5),
            st.sampled_from(["{{ a }}", "{{ row['b c'] }}", "{{ row.d }}", "\n", "{# note #}"]),
        ),
        max_size=8,
    ),
    st.fixed_dictionaries(
        {
            name: st.one_of(st.none(), st.text(max_size=5), st.integers(), st.booleans())
            for name in ("a", "b c", "d")
        }
    ),
)
def test_the_fast_way_of_plain_templates_says_what_jinja_says(
    parts: list[str], row: dict[str, Any]
) -> None:
    plain = "{{ a }}" + "".join(parts) + "."
    # A condition that always holds keeps Jinja from being passed by.
    full = "{% if true %}{{ a }}{% endif %}" + "".join(parts) + "."
    assert prompt(plain).render(row) == prompt(full).render(row)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("Hello", "names no column"),
        ("{{ text", "not a valid Jinja template: line 1"),
        ("a\n{% if text %}", "line 2"),
        ("{{ text | shout }}", "No filter named 'shout'"),
        ("{{ row[column] }}", "write a column's name in row[...]"),
        ("{{ row[0] }}", "write a column's name in row[...]"),
        ("{{ row }} {{ row['a'] }}", "both by itself and as row['column']"),
        ("{% include 'other' %}{{ text }}", "cannot use another one"),
        ("{% extends 'other' %}{{ text }}", "cannot use another one"),
        ("{% from 'other' import x %}{{ text }}", "cannot use another one"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(user: str, said: str) -> None:
    assert said in refusal(user)


@pytest.mark.parametrize(
    "user",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ text | attr('__class__') }}",
        "{{ lipsum.__globals__ }}{{ text }}",
        "{{ row.__class__.__init__.__globals__ }}",
    ],
)
def test_a_template_reaches_nothing_but_the_row(user: str) -> None:
    loaded = prompt(user)
    with pytest.raises(Exception, match=r"unsafe|undefined|__class__|lipsum|__globals__"):
        loaded.render({"text": "a"})


def test_files_beside_the_declaration_hold_the_texts(tmp_path: Path) -> None:
    (tmp_path / "system.md").write_bytes("\ufeffBe brief.\n".encode())
    (tmp_path / "user.j2").write_text("{{ text }}\n", encoding="utf-8")
    loaded = Prompt.load(PromptSpec(system="system.md", user="user.j2"), tmp_path)

    assert (loaded.system, loaded.user) == ("Be brief.", "{{ text }}")


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.md").write_bytes("café {{ text }}".encode("latin-1"))
    (tmp_path / "empty.md").write_text("\n")
    (tmp_path / "folder.md").mkdir()

    assert f"{tmp_path / 'none.md'} does not exist" in refusal("none.md", tmp_path)
    assert f"{tmp_path / 'latin.md'}, which is not UTF-8" in refusal("latin.md", tmp_path)
    assert f"{tmp_path / 'folder.md'}, which cannot be read" in refusal("folder.md", tmp_path)
    assert "names no column" in refusal("empty.md", tmp_path)
    assert "prompt.system is empty" in refusal("{{ text }}", tmp_path, system="empty.md")


def test_a_system_text_may_read_columns_too() -> None:
    loaded = Prompt.load(PromptSpec(system="You serve {{ tenant }}.", user="{{ text }}"), Path())
    assert (loaded.columns, loaded.system_columns) == (("tenant", "text"), ("tenant",))
    assert loaded.render_system is not None
    assert loaded.render_system({"tenant": "A", "text": "b"}) == "You serve A."


@pytest.mark.parametrize(
    ("system", "sent"),
    [
        ("Answer as JSON: {}. 100 %", "Answer as JSON: {}. 100 %"),
        ("{% raw %}{{ braces }}{% endraw %}", "{{ braces }}"),
    ],
)
def test_a_system_text_without_columns_is_sent_as_it_stands(system: str, sent: str) -> None:
    loaded = Prompt.load(PromptSpec(system=system, user="{{ text }}"), Path())
    assert loaded.system_columns == ()
    assert loaded.render_system is not None
    assert loaded.render_system({}) == sent


def test_braces_in_a_system_text_that_are_no_template_are_explained() -> None:
    said = refusal("{{ text }}", system="Write {{ }} around names.")
    assert "prompt.system is not a valid Jinja template: line 1" in said
    assert "{% raw %}" in said


@given(st.integers(0, 4), st.text(max_size=5), st.text(max_size=5))
def test_a_message_in_two_is_the_message(head: int, a: str, b: str) -> None:
    loaded = prompt("Document: {{ a }}\nQuestion: {{ b }}")
    row = {"a": a, "b": b}
    assert loaded.parts == [("Document: ", None), ("", "a"), ("\nQuestion: ", None), ("", "b")]
    assert "".join(loaded.render_in_two(head)(row)) == loaded.render(row)


@given(st.text(st.sampled_from("{}%#'\\ a")))
def test_a_text_made_literal_says_just_that(text: str) -> None:
    loaded = Prompt.load(PromptSpec(system=literal_text(f"- {text}."), user="{{ text }}"), Path())
    assert loaded.system_columns == ()
    assert loaded.render_system is not None
    assert loaded.render_system({}) == f"- {text}."
