from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from dqnkit.envs.watchdog import Watchdog, hang_error
from dqnkit.errors import EnvironmentFailedError, InterruptedRun
from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import Interrupts, catch_signals

LIMIT = 0.3  # seconds
LONG = 30.0  # seconds; a body this long must be interrupted


@pytest.fixture(autouse=True)
def _no_handler_stays() -> Iterator[None]:
    before = signal.getsignal(signal.SIGURG)
    yield
    signal.signal(signal.SIGURG, before)


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog(LIMIT, "Thing-v0")
    yield watchdog
    watchdog.close()


def _sleep() -> None:
    time.sleep(LONG)


def _compute() -> None:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        pass


def _wait_for_a_process() -> None:
    subprocess.run(["sleep", str(LONG)], check=True)


def _wait_for_a_lock() -> None:
    threading.Event().wait(LONG)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "dqnkit-watchdog"}


@pytest.mark.parametrize("body", [_sleep, _compute, _wait_for_a_process, _wait_for_a_lock])
def test_a_body_that_hangs_raises(watchdog: Watchdog, body: Callable[[], None]) -> None:
    began = time.monotonic()
    with pytest.raises(EnvironmentFailedError) as caught, watchdog:
        body()
    assert LIMIT < time.monotonic() - began < 10
    assert str(caught.value).startswith("'Thing-v0' hangs: ")
    assert "env.step_timeout=0.3 seconds" in str(caught.value)


def test_many_bodies_within_the_limit_do_not_raise(watchdog: Watchdog) -> None:
    end = time.monotonic() + 4 * LIMIT
    while time.monotonic() < end:
        with watchdog:
            time.sleep(LIMIT / 20)


def test_time_between_bodies_is_not_limited(watchdog: Watchdog) -> None:
    with watchdog:
        pass
    time.sleep(4 * LIMIT)


def test_a_body_after_one_that_was_interrupted_has_the_whole_limit(watchdog: Watchdog) -> None:
    with pytest.raises(EnvironmentFailedError), watchdog:
        _sleep()
    assert not watchdog.is_late
    with watchdog:
        time.sleep(LIMIT / 20)
    with pytest.raises(EnvironmentFailedError), watchdog:
        _sleep()


def test_an_exception_of_the_body_is_raised_and_ends_the_limit(watchdog: Watchdog) -> None:
    with pytest.raises(ZeroDivisionError), watchdog:
        raise ZeroDivisionError
    time.sleep(3 * LIMIT)
    assert not watchdog.is_late


def test_it_is_late_only_while_a_body_exceeds_the_limit() -> None:
    watchdog = Watchdog(LIMIT, "Thing-v0")
    watchdog.close()  # nothing interrupts the body
    assert not watchdog.is_late
    with watchdog:
        assert not watchdog.is_late
        time.sleep(1.5 * LIMIT)
        assert watchdog.is_late
    assert not watchdog.is_late


def test_without_a_limit_nothing_is_raised() -> None:
    watchdog = Watchdog(None, "Thing-v0")
    with watchdog:
        time.sleep(2 * LIMIT)
        assert not watchdog.is_late
    watchdog.close()


class _Interrupted:
    """A context in which the run was interrupted before the body, or is while it lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dqnkit.envs.watchdog.PATIENCE_SECONDS", LIMIT)
        self.interrupts = Interrupts()

    def __call__(self, after: float) -> contextlib.AbstractContextManager[Interrupts]:
        request = partial(self.interrupts.request, RunStatus.KILLED)
        threading.Timer(after, request).start()
        return catch_signals(self.interrupts)


@pytest.mark.parametrize("body", [_sleep, _compute, _wait_for_a_process, _wait_for_a_lock])
@pytest.mark.parametrize("limit", [None, LONG])
def test_a_body_that_does_not_end_after_an_interruption_is_given_up(
    monkeypatch: pytest.MonkeyPatch, body: Callable[[], None], limit: float | None
) -> None:
    interrupted, watchdog = _Interrupted(monkeypatch), Watchdog(limit, "Thing-v0")
    began = time.monotonic()
    with interrupted(0.2), pytest.raises(InterruptedRun, match="'Thing-v0'"), watchdog:
        body()
    assert 0.2 + LIMIT < time.monotonic() - began < 12
    watchdog.close()


def test_a_body_that_ends_soon_after_an_interruption_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted, watchdog = _Interrupted(monkeypatch), Watchdog(None, "Thing-v0")
    with interrupted(0.0):
        time.sleep(2 * LIMIT)  # a body is given the whole time, however long ago it was
        with watchdog:
            time.sleep(LIMIT / 2)
            assert not watchdog.is_given_up
    watchdog.close()


def test_closing_has_its_whole_limit_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted = _Interrupted(monkeypatch)
    watchdog = Watchdog(LONG, "Thing-v0", heeds_interrupts=False)
    with interrupted(0.0), watchdog:
        time.sleep(3 * LIMIT)
        assert not watchdog.is_given_up
    watchdog.close()


def test_threads_other_than_the_main_one_are_not_limited() -> None:
    outcomes: list[str] = []

    def run() -> None:
        before = _threads()
        watchdog = Watchdog(LIMIT, "Thing-v0")
        with watchdog:
            time.sleep(4 * LIMIT)
        outcomes.append(f"{len(_threads() - before)} more threads")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert outcomes == ["0 more threads"]


def test_only_the_watchdog_that_is_late_is_named(watchdog: Watchdog) -> None:
    other = Watchdog(LONG, "Other-v0")
    try:
        with pytest.raises(EnvironmentFailedError, match="'Thing-v0' hangs"), other, watchdog:
            _sleep()
    finally:
        other.close()


def test_a_closed_watchdog_limits_nothing_and_its_thread_ends() -> None:
    before = _threads()
    watchdog = Watchdog(LIMIT, "Thing-v0")
    (thread,) = _threads() - before
    watchdog.close()
    with watchdog:
        time.sleep(3 * LIMIT)
    thread.join(timeout=10)
    assert not thread.is_alive()
    watchdog.close()  # a second time has no effect


def test_a_handler_that_replaced_ours_is_replaced_by_the_next_watchdog() -> None:
    first = Watchdog(LONG, "First-v0")
    signal.signal(signal.SIGURG, signal.SIG_DFL)
    second = Watchdog(LIMIT, "Second-v0")
    try:
        with pytest.raises(EnvironmentFailedError, match="'Second-v0'"), second:
            _sleep()
    finally:
        first.close()
        second.close()


@pytest.mark.parametrize(("seconds", "text"), [(300.0, "300"), (0.25, "0.25"), (1e6, "1e+06")])
def test_the_message_names_environment_limit_and_remedy(seconds: float, text: str) -> None:
    message = str(hang_error("Thing-v0", seconds))
    assert "'Thing-v0' hangs" in message
    assert f"env.step_timeout={text} seconds" in message
    assert "increase the timeout" in message
