"""What a command left behind: the rights of its files, and whether words can be found in them."""

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import duckdb
import zstandard

from batch_pipeline_tests import forked
from batch_pipeline_tests.forked import BATCH_PIPELINE


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str


def command_anew(*arguments: str, **environment: str) -> Done:
    """As `command`, in a new interpreter."""
    ended = subprocess.run(
        [sys.executable, "-c", BATCH_PIPELINE, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return Done(ended.returncode, ended.stdout + ended.stderr)


def command(*arguments: str, umask: int = 0o022, **environment: str) -> Done:
    """Runs the installed command as a person does, in a process of its own."""
    ended = forked.run(
        BATCH_PIPELINE, *arguments, environment={**os.environ, **environment}, umask=umask
    )
    return Done(ended.returncode, ended.stdout + ended.stderr)


def open_to_others(folder: Path) -> list[str]:
    """What group or others may do anything with: `folder` and all below, as `find -perm /077` has it."""
    every = [folder, *folder.rglob("*")]
    return sorted(
        f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(folder)}"
        for path in every
        if path.lstat().st_mode & 0o077 and not path.is_symlink()
    )


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below `folder` by name and bytes; compressed ones in the clear, too."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        yield str(path.relative_to(folder)), os.fsencode(path) + b"\n" + raw
        if path.suffix == ".zst":
            yield f"{path.name}, unpacked", zstandard.ZstdDecompressor().stream_reader(raw).read()
        if path.suffix == ".parquet":
            yield f"{path.name}, unpacked", _rows(path, f"read_parquet('{_quoted(path)}')")
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                tables = connection.execute(
                    "SELECT table_schema, table_name FROM information_schema.tables"
                ).fetchall()
                for table in tables:
                    name = ".".join(f'"{part}"' for part in table)
                    found = connection.execute(f"SELECT * FROM {name}").fetchall()
                    yield f"{path.name}, {name}", repr(found).encode()


def holding(folder: Path, *words: str) -> list[str]:
    """The files below `folder` in which one of the words stands, plain or encoded, or in whose name."""
    wanted = [form for word in words for form in encodings(word)]
    return [name for name, content in contents(folder) if any(form in content for form in wanted)]


def encodings(word: str) -> list[bytes]:
    """A word as it is, as base64 wherever it may begin, in hex, quoted for a URL, and reversed."""
    plain = word.encode()
    # Of base64, only the characters that no neighbour has a part in.
    parts = [base64.b64encode(b"\0" * lead + plain)[(lead * 8 + 5) // 6 : -4] for lead in range(3)]
    return [plain, *parts, plain.hex().encode(), quote(word, safe="").encode(), plain[::-1]]


def _rows(path: Path, relation: str) -> bytes:
    with duckdb.connect() as connection:
        return repr(connection.execute(f"SELECT * FROM {relation}").fetchall()).encode()


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
