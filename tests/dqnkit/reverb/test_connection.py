from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb import connection
from dqnkit.reverb.connection import ServerConnection, translate_errors
from dqnkit.reverb.library import reverb, tf
from dqnkit.reverb.server import ReplayServer, serve_experiment
from dqnkit.reverb.tables import LEARNER, make_broadcast_tables
from tests.dqnkit.reverb.helpers import (
    LOCAL,
    BlockedError,
    raise_blocked,
    remote_config,
    remote_replay,
)
from tests.servers import free_port


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    local = ReplayServer(make_broadcast_tables())
    yield local
    local.close()


@pytest.fixture
def remote(server: ReplayServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerConnection]:
    """A connection with short intervals."""
    monkeypatch.setattr(connection, "POLL_SECONDS", 0.05)
    opened = ServerConnection(server.address, timeout=0.5)
    yield opened
    opened.close()


def test_calls_run_in_a_thread_of_the_connection(remote: ServerConnection) -> None:
    names = {remote.call(lambda: threading.current_thread().name) for _ in range(3)}
    assert len(names) == 1
    assert names != {threading.current_thread().name}
    assert remote.has_thread


def test_calls_to_a_server_in_this_process_are_direct(server: ReplayServer) -> None:
    local = ServerConnection(server.address, in_process=True)
    assert local.call(threading.current_thread) is threading.current_thread()
    assert not local.has_thread
    assert local.info(LEARNER).max_size == 1
    local.close()


def test_exceptions_of_the_function_reach_the_caller(remote: ServerConnection) -> None:
    def fail() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        remote.call(fail)
    assert remote.call(lambda: 1) == 1


def test_a_call_is_repeated_when_the_connection_breaks(remote: ServerConnection) -> None:
    calls = 0

    def fail_twice() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise reverb.ReverbError("the connection broke")
        return "done"

    assert remote.call(fail_twice) == "done"
    assert calls == 3


def test_a_call_without_retry_is_made_once(remote: ServerConnection) -> None:
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("the connection broke")

    with pytest.raises(ReplayError, match="does not answer: the connection broke"):
        remote.call(fail, retry=False)
    assert calls == 1


def test_a_connection_that_stays_broken_raises_after_the_timeout(remote: ServerConnection) -> None:
    def fail() -> None:
        raise RuntimeError("the connection broke")

    began = time.monotonic()
    with pytest.raises(ReplayError, match="`dqnkit replay-server`"):
        remote.call(fail)
    assert 0.5 <= time.monotonic() - began < 5.0


def test_a_call_that_hangs_is_given_up_with_its_thread(remote: ServerConnection) -> None:
    released = threading.Event()
    began = time.monotonic()
    with pytest.raises(ReplayError, match="no response in 0 s"):
        remote.call(released.wait)
    assert 0.5 <= time.monotonic() - began < 5.0
    assert remote.call(lambda: "next") == "next"  # by another thread
    released.set()


def test_the_callback_decides_how_long_a_call_may_take(remote: ServerConnection) -> None:
    released = threading.Event()
    calls = 0

    def release_late() -> None:
        nonlocal calls
        calls += 1
        if calls == 20:  # later than the timeout
            released.set()

    assert remote.call(released.wait, release_late)
    assert calls == 20
    released.clear()
    with pytest.raises(BlockedError):
        remote.call(released.wait, raise_blocked)
    released.set()


def test_the_timeout_of_a_rate_limiter_is_no_failure(remote: ServerConnection) -> None:
    def time_out() -> None:
        raise tf.errors.OutOfRangeError(None, None, "rate limiter")

    with pytest.raises(tf.errors.OutOfRangeError):
        remote.call(time_out)


@pytest.mark.parametrize(
    "error", [RuntimeError("gone\naway"), tf.errors.UnavailableError(None, None, "gone away")]
)
def test_errors_of_reverb_become_one_line_of_a_replay_error(error: Exception) -> None:
    with (
        pytest.raises(ReplayError, match=r"the replay server at a:1 does not answer: .*gone away"),
        translate_errors("a:1"),
    ):
        raise error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["replay.replay_buffer_max_length=60"], "transitions 50, not 60"),
        (["replay.sampler=prioritized"], r"alpha None, not 0\.6"),
        (["env.id=Acrobot-v1"], r"float32\[2, 4\].*not.*float32\[2, 6\]"),
        (["agent.n_step=3"], r"not.*'next_frames': 'float32\[1, 4\]'"),
        (["training.batch_size=16"], r"samples_per_insert 8\.0, not 16\.0"),
    ],
)
def test_the_server_of_another_experiment_is_rejected(changes: list[str], message: str) -> None:
    config, spec = resolve(remote_config(1))
    with (
        serve_experiment(config, spec, **LOCAL) as served,
        pytest.raises(ConfigError, match=message),
    ):
        remote_replay(served.port, *changes)


def test_a_server_without_a_replay_table_is_rejected(server: ReplayServer) -> None:
    with pytest.raises(ConfigError, match="has no table 'replay'"):
        remote_replay(server.port)


def test_an_address_that_never_answered_is_given_up_early() -> None:
    port, began = free_port(), time.monotonic()
    with pytest.raises(ReplayError, match=rf"127\.0\.0\.1:{port} does not answer"):
        remote_replay(port)
    assert time.monotonic() < began + 15
