"""YAML is read so that each part can be named by its line, and nothing in it is lost silently."""

from pathlib import Path

import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.yaml_document import read_documents


def written(folder: Path, text: str) -> Path:
    path = folder / "defs.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_document_comes_with_the_lines_of_its_parts(tmp_path: Path) -> None:
    path = written(tmp_path, "a: 1\n---\n# nothing\n---\nb:\n  - c: 2\n    yes: 3\n")
    first, second = read_documents(path)

    assert (first.value, second.value) == ({"a": 1}, {"b": [{"c": 2, True: 3}]})
    assert first.at(["a"]) == f"{path}, line 1"
    assert second.at(["b", 0, "c"]) == f"{path}, line 6"
    assert second.at(["b", 0, True]) == f"{path}, line 7"


def test_what_is_not_there_is_at_the_deepest_part_that_is(tmp_path: Path) -> None:
    (document,) = read_documents(written(tmp_path, "x: 1\nb:\n  c: 2\n"))

    assert document.at(["b", "missing", 0]).endswith("line 2")
    assert document.at(["missing"]).endswith("line 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "line 5: 'c' is given twice, first in line 3"),
        ("a: 1\nb: [1,\nc: 2\n", "but got '<stream end>', in what begins in line 2"),
        ("a: {{ text }}\n", "line 1: not valid YAML: text that begins with a brace must be in quotes"),
        ("a: 1\n\tb: 2\n", "line 2: not valid YAML"),
        ("a: *unknown\n", "undefined alias"),
        ("a: !!python/object:os.system 1\n", "line 1: not valid YAML"),
        ("a: 2026-13-45\n", "month must be in 1..12"),
        ("a: \x01\n", "special characters are not allowed"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_file_and_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as refused:
        read_documents(path)

    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    (document,) = read_documents(written(tmp_path, "a: &base {x: 1, y: 2}\nb: {<<: *base, x: 3}\n"))

    assert document.value["b"] == {"x": 3, "y": 2}


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_bytes("a: café".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_documents(tmp_path / "defs.yaml")
