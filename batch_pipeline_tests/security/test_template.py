"""The prompt's template meets hostile rows: their text is text, and the template reaches nothing but the row."""

from collections.abc import Callable
from pathlib import Path

import pytest
from jinja2 import TemplateError

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.workload.prompt import Prompt
from batch_pipeline.workload.spec import PromptSpec
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.stages.watching import Watch, finals

TEMPLATES_IN_TEXT = [
    "{{ 7 * 7 }}",
    "{{ text.__class__.__mro__ }}",
    "{% include '/etc/passwd' %}",
    "{% for n in range(10**9) %}x{% endfor %}",
    "{# gone #}{% raw %}",
    "{{ secret }}",
]


def prompt(user: str) -> Prompt:
    return Prompt.load(PromptSpec(user=user), Path())


@pytest.mark.parametrize(
    "user", ["{{ text }}", "{% if text %}{{ text }}{% endif %}", "{{ row['text'] }}"]
)
@pytest.mark.parametrize("text", TEMPLATES_IN_TEXT)
def test_what_looks_like_a_template_in_a_row_is_text(user: str, text: str) -> None:
    assert prompt(user).render({"text": text}) == text


def test_it_is_sent_as_it_stands(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate(answers=None)
    watch = Watch()
    made = night(
        source=[{"id": str(n), "text": text} for n, text in enumerate(TEMPLATES_IN_TEXT)],
        golden=0,
        prompt={"user": "{{ text }}"},
    )
    read_source(made.context)
    send_pending(made.context, watch)
    sent = {request["params"]["messages"][0]["content"] for request in watch.requests[0]}
    assert sent == set(TEMPLATES_IN_TEXT)


@pytest.mark.parametrize(
    "user",
    [
        "{{ text.__class__ }}",
        "{{ text['__class__'] }}",
        "{{ text|attr('__class__') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ text }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(text) }}",
        "{% set f = text.format %}{{ f.__self__ }}",
        "{{ row['text'].__class__ }}",
        "{{ text.upper.__self__ }}",
        "{{ lipsum.__globals__ }}{{ text }}",
        "{{ cycler.__init__.__globals__ }}{{ text }}",
        "{{ (text|map('attr', '__class__')|first).__mro__ }}",
    ],
)
def test_no_attribute_leads_out_of_the_row(user: str) -> None:
    template = prompt(user)
    with pytest.raises(TemplateError):
        template.render(dict.fromkeys(template.columns, "x"))


@pytest.mark.parametrize(
    "user",
    [
        "{% include 'other.j2' %}{{ text }}",
        "{% import 'os' as os %}{{ text }}",
        "{% from 'os' import system %}{{ text }}",
        "{% extends 'other.j2' %}{{ text }}",
    ],
)
def test_no_other_file_is_read(user: str) -> None:
    with pytest.raises(ConfigurationError, match="a template cannot use another one"):
        prompt(user)


def test_there_is_no_range_to_loop_over() -> None:
    template = prompt("{% for n in range(10 ** 9) %}x{% endfor %}{{ text }}")

    # It would have to be a column, and preflight refuses what the source does not have.
    assert "range" in template.columns
    with pytest.raises(TypeError):
        template.render({"range": "1", "text": "x"})


@pytest.mark.parametrize(
    ("user", "row"),
    [
        ("{{ 'x' * 10 ** 9 }}{{ text }}", {}),
        ("{{ text * 10 ** 9 }}", {}),
        ("{{ n * text }}", {"n": 10**9}),
        ("{{ [text] * n }}", {"n": 10**9}),
        ("{{ 10 ** (10 ** 10) }}{{ text }}", {}),
        ("{{ n ** n }}{{ text }}", {"n": 10**6}),
        ("{{ 2 ** n }}{{ text }}", {"n": 10**12}),
    ],
)
def test_no_row_makes_the_template_fill_the_memory(user: str, row: dict[str, int]) -> None:
    template = prompt(user)
    with pytest.raises(TemplateError, match="a product in the template"):
        template.render({"text": "x", **row})


@pytest.mark.parametrize(
    ("user", "said"),
    [("{{ 2 ** 10 }} {{ text }}", "1024 x"), ("{{ '-' * 3 }}{{ text * n }}", "---xx"), ("{{ n * 1.5 }}{{ text }}", "3.0x"), ("{{ 2.0 ** n }}{{ text }}", "4.0x")],
)  # fmt: skip
def test_ordinary_products_work(user: str, said: str) -> None:
    assert prompt(user).render({"text": "x", "n": 2}) == said


def test_the_word_that_jinja_keeps_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"write row\['self'\]"):
        prompt("{{ self }}{% if text %}{% endif %}")

    assert prompt("{{ row['self'] }}").render({"self": "x"}) == "x"


def test_a_row_that_breaks_the_template_is_quarantined_alone(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate()
    source = [
        {"id": f"r{n}", "text": f"question number {n} of the night", "n": "2" if n else "900000000"}
        for n in range(4)
    ]
    made = night(
        source=source, golden=0, prompt={"user": "{{ '' * 0 }}{{ ('x' * (n|int))[:0] }}{{ text }}"}
    )
    made.settle()

    ended = finals(made)
    assert (ended["r0"].disposition, ended["r0"].reason) == ("quarantined", "template_failed")
    assert {ended[f"r{n}"].disposition for n in (1, 2, 3)} == {"validated"}
