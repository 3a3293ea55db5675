from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest

from dqnkit._system import memory
from dqnkit.processes import launcher
from dqnkit.processes.launcher import Handle, LocalLauncher, detach_from_terminal, memory_limit

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.fixture
def local() -> Iterator[LocalLauncher]:
    started = LocalLauncher()
    yield started
    started.close()


def _report(connection: Connection, output: str | None, limit: int) -> None:
    """Sends the circumstances in which a worker runs."""
    assert output is not None
    detach_from_terminal(output)
    sigint_default = signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    sigint_blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    threads = tuple(os.environ.get(name) for name in THREADS)
    connection.send((os.getpgid(0), sigint_default, sigint_blocked, threads, limit))


def _echo(connection: Connection, output: str | None, limit: int) -> None:
    with contextlib.suppress(EOFError):
        while True:
            connection.send(connection.recv())


def _fail(connection: Connection, output: str | None, limit: int) -> None:
    assert output is not None
    detach_from_terminal(output)
    print("one\ntwo\nthree", flush=True)  # noqa: T201 - what is tested
    os.write(2, b"four\n")
    sys.exit(3)


def _interrupted_at_once(connection: Connection, output: str | None, limit: int) -> None:
    assert output is not None
    os.kill(os.getpid(), signal.SIGINT)  # as by a Ctrl-C in the terminal: still blocked
    detach_from_terminal(output)
    connection.send("alive")
    connection.recv()


def _wait_for_end(handle: Handle) -> None:
    with pytest.raises(EOFError):
        handle.connection.recv()


def test_a_worker_runs_apart_from_the_terminal(
    local: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    handle = local.start(_report, 0, workers=2)
    group, sigint_default, sigint_blocked, threads, limit = handle.connection.recv()
    assert handle.join(10)
    assert group != os.getpgid(0)
    assert sigint_default
    assert not sigint_blocked
    assert threads == ("1", "1", "1")
    assert limit == memory_limit(1 / 2)


def test_numbers_of_threads_that_the_user_sets_are_kept(
    local: LocalLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS[1:]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(THREADS[0], "4")
    handle = local.start(_report, 0, workers=1)
    *_, threads, _ = handle.connection.recv()
    handle.join(10)
    assert threads == ("4", "1", "1")
    assert [os.environ.get(name) for name in THREADS] == ["4", None, None]


def test_the_parent_s_signal_mask_is_restored(local: LocalLauncher) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handle = local.start(_echo, 0, workers=1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    handle.kill()
    assert handle.join(10)


def test_a_worker_ends_when_its_connection_closes(local: LocalLauncher) -> None:
    handle = local.start(_echo, 0, workers=1)
    handle.connection.send({"a": 1})
    assert handle.connection.recv() == {"a": 1}
    assert not handle.join(0)
    handle.connection.close()
    assert handle.join(10)
    assert handle.exit_cause() == "its process ended with status 0"


def test_a_killed_worker_closes_its_connection(local: LocalLauncher) -> None:
    handle = local.start(_echo, 0, workers=1)
    handle.connection.send(None)
    handle.connection.recv()
    handle.kill()
    _wait_for_end(handle)
    assert handle.exit_cause() == "its process ended with signal 9"
    assert handle.join()


def test_the_last_lines_of_the_output_explain_the_end(local: LocalLauncher) -> None:
    handle = local.start(_fail, 0, workers=1)
    _wait_for_end(handle)
    assert handle.exit_cause() == "its process ended with status 3: two three four"


def test_an_interrupt_while_a_worker_starts_is_for_the_parent_alone(local: LocalLauncher) -> None:
    handle = local.start(_interrupted_at_once, 0, workers=1)
    assert handle.connection.recv() == "alive"
    handle.connection.close()
    assert handle.join(10)


def test_output_is_appended_to_the_file_of_the_worker(local: LocalLauncher) -> None:
    for number in (0, 1):
        _wait_for_end(local.start(_fail, number, workers=2))
    files = sorted(local._folder.iterdir())
    assert [path.name for path in files] == ["0.txt", "1.txt"]
    assert {path.read_text() for path in files} == {"one\ntwo\nthree\nfour\n"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_closing_removes_the_folder() -> None:
    local = LocalLauncher()
    folder = local._folder
    assert folder.is_dir()
    local.close()
    assert not folder.exists()


def test_workers_share_a_third_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 96 * 2**30)
    assert memory_limit(1.0) == pytest.approx(32 * 2**30)
    assert memory_limit(1 / 4) == pytest.approx(8 * 2**30)
    assert memory_limit(1 / 1_000) == launcher._MIN_MEMORY


def test_each_worker_has_its_own_connection(local: LocalLauncher) -> None:
    handles = [local.start(_echo, number, workers=4) for number in range(4)]
    for number, handle in enumerate(handles):
        handle.connection.send(number)
    assert [handle.connection.recv() for handle in handles] == list(range(4))
    for handle in handles:
        handle.connection.close()
    assert all(handle.join(10) for handle in handles)
