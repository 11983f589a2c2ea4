"""The documentation is complete, and what it tells a reader to type works."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from batch_pipeline.cli import COMMANDS, main
from batch_pipeline.settings import project_root
from batch_pipeline.workload.spec import WorkloadSpec

ROOT = project_root()
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for part, inner in command.commands.items():
                yield f"{name} {part}", inner


def test_every_command_and_option_has_help_and_a_line_in_the_docs() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    sections = re.split(r"\| `batch-pipeline (?=\w)", text)
    for name, command in commands():
        first = name.split()[0]
        section = "".join(part for part in sections if part.startswith((name, f"{first}`")))
        assert section, name
        assert command.help, name
        for option in command.params:
            if not isinstance(option, click.Option):
                continue
            assert option.help, (name, option.name)
            assert f"`{option.opts[0]}" in section, (name, option.opts)


def test_every_environment_variable_is_documented() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    sources = [path.read_text() for path in (ROOT / "batch_pipeline").rglob("*.py")]
    read = {
        name for source in sources for name in re.findall(r"\bBATCH_PIPELINE_[A-Z_]+\b", source)
    }
    assert read
    for name in read:
        assert f"`{name}`" in text, name


def options(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if inner:
            many = "[]" if "list" in str(field.annotation) else ""
            yield from options(inner[0], f"{prefix}{name}{many}.")
        else:
            yield f"{prefix}{name}"


def test_every_option_of_a_workload_is_documented() -> None:
    text = (ROOT / "docs" / "workload.md").read_text()
    for option in options(WorkloadSpec):
        assert f"`{option}" in text, option


def test_every_link_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists() or target.startswith("https://"), (page, target)


@pytest.mark.timeout(400)
def test_the_readmes_commands_run(tmp_path: Path) -> None:
    """All of its shell blocks in order, in one shell; but for cloning, and for the UI, which never ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    lines = [
        line
        for block in blocks
        for line in block.splitlines()
        if not line.startswith(("git clone", "make ui"))
    ]
    assert any(line == "make demo" for line in lines)
    script = "\n".join(lines).replace("8787", str(port)).replace("data/state", str(tmp_path / "s"))
    # The project as it is checked out, with this interpreter's environment as its .venv.
    script = script.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    script = script.replace("make demo", f"{Path(sys.executable).parent}/batch-pipeline demo")
    script = script.replace("$PWD/", "")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill %1 2>/dev/null' EXIT\n{script}"],
        cwd=ROOT,
        env={**os.environ, "BATCH_PIPELINE_STATE": str(tmp_path / "s")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "s" / "promoted.parquet").is_file()
    assert (tmp_path / "s" / "dispositions.csv").is_file()
