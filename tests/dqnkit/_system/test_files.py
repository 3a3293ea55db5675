from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dqnkit._system.files import (
    file_lock,
    remove_partial_files,
    replace_atomically,
    write_text_atomically,
)

PATH = Path("file.txt")
LOCK = Path("lock")
HOLDER = """
import sys, time
from pathlib import Path
from dqnkit._system.files import file_lock
with file_lock(Path("lock")):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_replace_atomically_renames_the_temporary_file() -> None:
    PATH.write_text("old")
    with replace_atomically(PATH, sync=True) as partial:
        partial.write_text("new")
        assert PATH.read_text() == "old"
        assert partial.parent == PATH.parent
        assert partial.suffix == ".txt"
    assert PATH.read_text() == "new"
    assert list(Path().iterdir()) == [PATH]


def test_files_of_killed_writers_are_removed() -> None:
    PATH.write_text("kept")
    with replace_atomically(PATH) as partial:
        partial.write_text("a copy of this stays when the writer is killed")
        left = partial.read_bytes()
    partial.write_bytes(left)
    remove_partial_files(Path())
    assert list(Path().iterdir()) == [PATH]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_replace_atomically_keeps_the_old_file_when_the_body_raises(error: BaseException) -> None:
    PATH.write_text("old")

    def fail() -> None:
        with replace_atomically(PATH) as partial:
            partial.write_text("ne")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert PATH.read_text() == "old"
    assert list(Path().iterdir()) == [PATH]


def test_replace_atomically_keeps_the_old_file_when_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    PATH.write_text("old")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dqnkit._system.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"), replace_atomically(PATH, sync=True) as partial:
        partial.write_text("new")
    assert PATH.read_text() == "old"
    assert list(Path().iterdir()) == [PATH]


def test_replace_atomically_tolerates_a_folder_that_cannot_be_synced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fsync = os.fsync

    def files_only(number: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{number}"):  # noqa: PTH112 - follows the link
            raise OSError(22, "Invalid argument")
        fsync(number)

    monkeypatch.setattr("dqnkit._system.files.os.fsync", files_only)
    with replace_atomically(PATH, sync=True) as partial:
        partial.write_text("new")
    assert PATH.read_text() == "new"


def test_replace_atomically_needs_a_file() -> None:
    with pytest.raises(FileNotFoundError), replace_atomically(PATH):
        pass
    assert not PATH.exists()


def test_concurrent_writers_have_different_temporary_files() -> None:
    with replace_atomically(PATH) as one, replace_atomically(PATH) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
        assert sorted(Path().iterdir()) == sorted([one, other])
    assert PATH.read_text() == "one"  # the outer block ends last


def test_write_text_atomically_writes_utf8_and_replaces() -> None:
    for text in ("größer", "kleiner"):
        write_text_atomically(PATH, text)
        assert PATH.read_bytes() == text.encode()
    assert list(Path().iterdir()) == [PATH]


def test_file_lock_is_exclusive_within_a_process() -> None:
    with file_lock(LOCK), pytest.raises(BlockingIOError), file_lock(LOCK, blocking=False):
        pass
    with file_lock(LOCK, blocking=False):
        pass
    assert LOCK.exists()


def test_file_lock_is_released_when_the_body_raises() -> None:
    with pytest.raises(ValueError, match="wrong"), file_lock(LOCK):
        raise ValueError("wrong")
    with file_lock(LOCK, blocking=False):
        pass


def test_file_lock_is_released_when_its_process_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(BlockingIOError), file_lock(LOCK, blocking=False):
            pass
        holder.send_signal(signal.SIGKILL)
        with file_lock(LOCK):  # waits for the end of the process
            pass


def test_file_lock_reports_a_folder_that_is_missing() -> None:
    with pytest.raises(FileNotFoundError), file_lock(Path("nowhere/lock")):
        pass


def test_a_waiting_process_locks_the_new_file_after_the_holder_removed_the_old_one() -> None:
    order: list[str] = []
    waiting = threading.Event()

    def wait_for_lock() -> None:
        waiting.set()
        with file_lock(LOCK):
            order.append("waiter")
            # The lock is on the file at the path, so that others see it.
            with pytest.raises(BlockingIOError), file_lock(LOCK, blocking=False):
                pass

    with file_lock(LOCK):
        thread = threading.Thread(target=wait_for_lock)
        thread.start()
        waiting.wait()
        LOCK.unlink()
        order.append("holder")
    thread.join(10)
    assert order == ["holder", "waiter"]


def test_a_nonblocking_lock_is_refused_on_a_file_that_was_just_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fcntl

    flock = fcntl.flock

    def removed_meanwhile(file: object, operation: int) -> None:
        flock(file, operation)  # type: ignore[arg-type]  # a file, as fcntl takes it
        LOCK.unlink()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(BlockingIOError, match="was removed"), file_lock(LOCK, blocking=False):
        pass
