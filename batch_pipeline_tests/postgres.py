"""A Postgres of the tests' own: Debian's programs, a private folder, a free port, gone with the test run."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

USER, PASSWORD = "pipeline", "not-for-logs-4711"
_DEBIAN = Path("/usr/lib/postgresql")
_OPTIONS = {
    # Whatever is committed is asked of the server, never of a disk after a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum": "off",
}


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: Debian keeps them off the PATH. None where there are none."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres", path=str(Path(found).resolve().parent)):
        return Path(found).resolve().parent
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return versions[-1].parent if versions else None


def required() -> Path:
    """As `programs`; without them the test is skipped with a word, or fails where CI asks for them."""
    found = programs()
    if found is not None:
        return found
    missing = "Postgres is not installed (Debian's package postgresql), so nothing is tested on it"
    if os.environ.get("BATCH_PIPELINE_REQUIRE_POSTGRES"):
        pytest.fail(missing)
    pytest.skip(missing)


class PostgresServer:
    """One server. `stop` and `start` keep its databases and its address."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self._programs = required()
        self._folder = folder
        self.host = host
        self.port = _free_port(host)
        self._names = count()
        self._process: subprocess.Popen[bytes] | None = None
        # Postgres refuses to run as root; Debian's package has made it an account.
        self._account: dict[str, Any] = {}
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._account = {
                "user": account.pw_uid,
                "group": account.pw_gid,
                "extra_groups": [],
                "cwd": folder,
            }
        self._initialise()

    def start(self) -> None:
        options = {
            **_OPTIONS,
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self._folder),
        }
        arguments = [item for name, value in options.items() for item in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._folder / "data", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account,
            )
        until = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """At once, as in a crash: connections break, and what was not committed is gone."""
        if self._process is not None:
            self._process.send_signal(3)  # SIGQUIT: Postgres calls it immediate shutdown
            self._process.wait(timeout=60)
            self._process = None

    def dsn(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@{self.host}:{self.port}/{database}"

    def database(self, template: str | None = None) -> str:
        """Makes an empty database, or a copy of another of this server; its name."""
        name = f"test_{os.getpid()}_{next(self._names)}"
        made = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            made += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with closing(psycopg.connect(self.dsn("postgres"), autocommit=True)) as connection:
            connection.execute(made)
        return name

    def url(self, database: str | None = None) -> str:
        """What SQLAlchemy takes; of a new database unless one is named."""
        return self.dsn(database or self.database()).replace("postgresql:", "postgresql+psycopg:")

    def _initialise(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        secret.chmod(0o644)
        subprocess.run(
            [
                self._programs / "initdb",
                *("-D", self._folder / "data", "-U", USER, "--pwfile", secret),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
                "--no-sync",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._account,
        )


@contextmanager
def running(host: str = "127.0.0.1") -> Iterator[PostgresServer]:
    """A server for as long as the context lasts."""
    required()
    # Not below pytest's own folder, which is closed to the account that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="batch-pipeline-postgres-"))
    try:
        server = PostgresServer(folder, host)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
