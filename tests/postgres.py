"""A real PostgreSQL server on this machine, from the system's packages, and databases on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import free_port

USER = "hunter"
PASSWORD = "not-to-be-shown"


def binaries() -> Path | None:
    """Where the newest server's programs are; None where there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


@contextlib.contextmanager
def running() -> Iterator[PostgresServer]:
    """A server; the test is skipped where the system has none."""
    if binaries() is None:
        pytest.skip("no PostgreSQL server: install the system's package postgresql")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


class PostgresServer:
    """A server with password authentication, to be stopped and started again."""

    def __init__(self, host: str = "127.0.0.1", *, tls: bool = False) -> None:
        found = binaries()
        assert found is not None, "no PostgreSQL on this machine"
        self._bin = found
        # Below /tmp, whose path is short enough for a socket and open to the server's user.
        self.folder = Path(tempfile.mkdtemp(prefix="dqnkit-pg-"))
        self.host, self.port = host, free_port()
        self._data = self.folder / "data"
        if os.geteuid() == 0:  # which the server refuses to be run by
            shutil.chown(self.folder, "postgres")
        password = self.folder / "password"
        password.write_text(PASSWORD, encoding="ascii")
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--no-sync",
                  f"--pwfile={password}", "-E", "UTF8")  # fmt: skip
        settings = [
            f"listen_addresses = '{host}'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self.folder}'",
            "fsync = off",
            "max_connections = 200",
        ]
        if tls:
            self._make_certificate()
            settings.append("ssl = on")
        with (self._data / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write("\n".join(settings) + "\n")
        who = "hostssl" if tls else "host"
        allowed = f"local all all trust\n{who} all all 0.0.0.0/0 scram-sha-256\n"
        (self._data / "pg_hba.conf").write_text(allowed, encoding="ascii")

    @property
    def certificate(self) -> Path:
        """Of a server with TLS."""
        return self.folder / "server.crt"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self.folder / "log", "start")

    def stop(self, how: str = "immediate") -> None:
        """Ends it, by default as a crash does."""
        self._run("pg_ctl", "-D", self._data, "-m", how, "-w", "stop", check=False)

    def pause(self, seconds: float) -> None:
        """Takes it away for a while."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def freeze(self, number: int = signal.SIGSTOP) -> None:
        """It listens, and answers nothing, until `freeze(SIGCONT)`."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, number)

    def remove(self) -> None:
        """Ends it, and removes its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_database(self) -> str:
        """A new, empty database's name."""
        name = f"d{uuid.uuid4().hex[:12]}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return name

    def sql(self, database: str, statement: str) -> str:
        """What `psql` says to it."""
        done = subprocess.run(
            [self._bin / "psql", "-qtA", "-h", self.host, "-p", str(self.port), "-U", USER,
             "-d", database, "-c", statement],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def url(self, database: str, *, password: bool = True, options: str = "") -> str:
        """As `--storage` takes it."""
        user = f"{USER}:{PASSWORD}" if password else USER
        return f"postgresql+psycopg://{user}@{self.host}:{self.port}/{database}{options}"

    def _make_certificate(self) -> None:
        self._run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-keyout", self._data / "server.key", "-out", self._data / "server.crt",
            "-subj", f"/CN={self.host}", "-addext", f"subjectAltName=IP:{self.host}",
        )  # fmt: skip
        shutil.copy(self._data / "server.crt", self.certificate)

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        path = self._bin / program if (self._bin / program).exists() else program
        command = [str(path), *map(str, arguments)]
        if os.geteuid() == 0:
            command = [
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                *command,
            ]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{program} failed: {done.stderr}")
