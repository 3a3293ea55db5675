from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dqnkit.processes import identity

PRINT_IDENTITY = "from dqnkit.processes import identity; print(identity.identity(), flush=True); "


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """A process that prints its identity and ends when its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{PRINT_IDENTITY}input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _changed(**parts: str) -> str:
    """The identity of this process with other parts."""
    names = ("host", "boot", "namespace", "pid", "start")
    mine = dict(zip(names, identity.identity().split("/"), strict=True))
    return "/".join((mine | parts).values())


def test_the_identity_is_constant_and_contains_host_and_pid() -> None:
    mine = identity.identity()
    assert mine == identity.identity()
    assert len(mine.split("/")) == 5
    assert mine.split("/")[3] == str(os.getpid())
    assert identity.host(mine) == mine.split("/")[0] != ""
    assert identity.is_here(mine)
    assert not identity.is_dead(mine)


def test_another_process_is_alive_until_it_ends(other: subprocess.Popen[str]) -> None:
    process = _read(other)
    assert process != identity.identity()
    assert identity.is_here(process)
    assert not identity.is_dead(process)
    other.communicate("\n")
    assert identity.is_here(process)
    assert identity.is_dead(process)


def test_a_zombie_is_dead(other: subprocess.Popen[str]) -> None:
    process = _read(other)
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # ended, but not reaped
    assert Path(f"/proc/{other.pid}").exists()
    assert identity.is_dead(process)


def test_a_process_that_got_the_pid_of_another_is_not_the_other() -> None:
    assert identity.is_dead(_changed(start="1"))


def test_an_earlier_boot_of_this_host_is_dead_and_not_here() -> None:
    process = _changed(boot="an-earlier-boot")
    assert identity.is_dead(process)
    assert not identity.is_here(process)


@pytest.mark.parametrize("part", ["host", "namespace"])
def test_processes_that_cannot_be_examined_are_not_dead(part: str) -> None:
    assert not identity.is_dead(_changed(**{part: "another", "start": "1"}))


@pytest.mark.parametrize("text", ["", "host", "host/boot/namespace/pid/1", "a/b/c/1/2/3"])
def test_text_that_is_no_identity_is_not_dead(text: str) -> None:
    assert not identity.is_dead(text)
    assert not identity.is_here(text)


def test_the_command_of_a_process_may_contain_parentheses() -> None:
    Path("a) Z 1 (b").symlink_to(sys.executable)
    process = subprocess.Popen(["./a) Z 1 (b", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert "Z 1" in Path(f"/proc/{process.pid}/stat").read_text()
        start = identity._start_time(process.pid)
        assert start.isdigit()
        assert not identity.is_dead(_changed(pid=str(process.pid), start=start))
    finally:
        process.communicate(b"\n")


def test_without_proc_only_the_pid_decides(
    monkeypatch: pytest.MonkeyPatch, other: subprocess.Popen[str]
) -> None:
    _read(other)

    def missing(*_: object, **__: object) -> str:
        raise FileNotFoundError

    for name in ("read_text", "readlink"):
        monkeypatch.setattr(Path, name, missing)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    mine = identity.identity()
    assert mine.split("/")[1:] == ["unknown", "unknown", str(os.getpid()), "unknown"]
    assert not identity.is_dead(mine)
    process = _changed(pid=str(other.pid))
    assert not identity.is_dead(process)
    other.communicate("\n")
    assert identity.is_dead(process)


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run with ids that no entry of the password file has."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert identity.user() == getpass.getuser()

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert identity.user() == str(os.getuid())
