from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from dqnkit.events import RunStatus
from dqnkit.processes.interrupts import SIGNALS, Interrupts, catch_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Restores the handlers, whatever a test leaves."""
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


def test_a_run_continues_until_an_end_is_requested() -> None:
    interrupts = Interrupts()
    assert not interrupts
    assert (interrupts.signal, interrupts.status) == (None, None)
    interrupts.request(RunStatus.FINISHED)
    assert interrupts
    assert (interrupts.signal, interrupts.status) == (None, RunStatus.FINISHED)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_requests_the_end(number: signal.Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with catch_signals() as interrupts:
        os.kill(os.getpid(), number)
        assert interrupts
        assert (interrupts.signal, interrupts.status) == (number, RunStatus.KILLED)


def test_the_second_signal_raises() -> None:
    with catch_signals() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.signal is signal.SIGTERM


def test_a_signal_after_a_request_does_not_raise() -> None:
    with catch_signals() as interrupts:
        interrupts.request(RunStatus.FINISHED)
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.status is RunStatus.KILLED


def test_deferred_signals_do_not_raise() -> None:
    with catch_signals() as interrupts:
        with interrupts.deferred():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signals_raise_again_after_a_deferred_body_that_failed() -> None:
    with catch_signals() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(ValueError, match="wrong"), interrupts.deferred():
            raise ValueError("wrong")
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_previous_handlers_are_restored() -> None:
    def fail() -> None:
        with catch_signals():
            assert [signal.getsignal(number) for number in SIGNALS] != previous
            raise ValueError("wrong")

    previous = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert [signal.getsignal(number) for number in SIGNALS] == previous


def test_a_given_request_is_used() -> None:
    interrupts = Interrupts()
    with catch_signals(interrupts) as used:
        assert used is interrupts


def test_an_ignored_sighup_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with catch_signals() as interrupts:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupts
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts


def test_other_threads_handle_no_signals() -> None:
    previous = [signal.getsignal(number) for number in SIGNALS]
    seen: list[bool] = []

    def run() -> None:
        with catch_signals() as interrupts:
            seen.append(bool(interrupts))
            seen.append([signal.getsignal(number) for number in SIGNALS] == previous)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False, True]


def test_a_process_that_checks_between_chunks_ends_in_order() -> None:
    code = (
        "import time\n"
        "from dqnkit.processes.interrupts import catch_signals\n"
        "with catch_signals() as interrupts:\n"
        "    print('started', flush=True)\n"
        "    while not interrupts:\n"
        "        time.sleep(0.01)\n"
        "print(interrupts.signal.name, interrupts.status)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "SIGTERM KILLED\n"
    assert process.returncode == 0
