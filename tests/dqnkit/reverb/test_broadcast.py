from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from dqnkit.errors import ReplayError
from dqnkit.reverb import broadcast
from dqnkit.reverb.broadcast import Publisher, Subscriber
from dqnkit.reverb.connection import ServerConnection
from dqnkit.reverb.server import ReplayServer
from dqnkit.reverb.tables import make_broadcast_tables


@pytest.fixture
def server() -> Iterator[ServerConnection]:
    local = ReplayServer(make_broadcast_tables())
    connection = ServerConnection(local.address)
    yield connection
    connection.close()
    local.close()


def test_there_is_no_state_before_the_first(server: ServerConnection) -> None:
    subscriber = Subscriber(server)
    assert subscriber.latest() is None
    assert subscriber.wait(0.2) is None
    subscriber.close()


def test_subscribers_read_the_newest_state_as_often_as_they_want(server: ServerConnection) -> None:
    subscribers = [Subscriber(server) for _ in range(2)]
    publisher = Publisher(server, "name: größer")
    for steps in range(5):
        publisher.publish(np.full(7, steps, np.float32), steps, 2.5)
    for subscriber in subscribers * 2:
        state = subscriber.latest()
        assert state is not None
        assert (state.config, state.env_steps, state.priority) == ("name: größer", 4, 2.5)
        assert not state.is_over
        assert state.weights.dtype == np.float32
        np.testing.assert_array_equal(state.weights, np.full(7, 4, np.float32))
    for subscriber in subscribers:
        subscriber.close()


def test_the_end_of_a_run_is_published_with_all_its_steps(server: ServerConnection) -> None:
    subscriber = Subscriber(server)
    Publisher(server, "").publish(np.zeros(7, np.float32), 2**40, 1e-6, is_over=True)
    state = subscriber.wait(10.0)
    assert state is not None
    assert (state.is_over, state.env_steps, state.priority) == (True, 2**40, 1e-6)
    subscriber.close()


def test_a_withdrawn_state_is_gone(server: ServerConnection) -> None:
    publisher, subscriber = Publisher(server, ""), Subscriber(server)
    publisher.publish(np.zeros(7, np.float32), 0, 1.0)
    publisher.withdraw()
    assert subscriber.latest() is None
    publisher.publish(np.zeros(7, np.float32), 1, 1.0)
    state = subscriber.latest()
    assert state is not None
    assert state.env_steps == 1
    subscriber.close()


def test_each_episode_is_read_once(server: ServerConnection) -> None:
    publisher, subscribers = Publisher(server, ""), [Subscriber(server) for _ in range(3)]
    assert publisher.episodes() == []
    reported = []
    for number in range(30):
        reported.append((-number / 4, float(number)))
        subscribers[number % 3].report_episode(*reported[-1])
    for subscriber in subscribers:
        subscriber._writer.flush()
    assert sorted(publisher.episodes()) == sorted(reported)
    assert publisher.episodes() == []
    for subscriber in subscribers:
        subscriber.close()


def test_episodes_that_a_server_has_lost_are_missing(
    server: ServerConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "_READ_SECONDS", 0.5)
    publisher, subscriber = Publisher(server, ""), Subscriber(server)
    subscriber.report_episode(1.0, 2.0)
    subscriber._writer.flush()
    info = server.info

    def lose_them(table: str) -> object:
        before = info(table)
        server.client.reset(table)
        return before

    monkeypatch.setattr(server, "info", lose_them)
    began = time.monotonic()
    assert publisher.episodes() == []
    assert time.monotonic() < began + 10
    subscriber.close()


def test_a_server_that_is_gone_raises_replay_error(monkeypatch: pytest.MonkeyPatch) -> None:
    local = ReplayServer(make_broadcast_tables())
    connection = ServerConnection(local.address, timeout=1.0)
    publisher, subscriber = Publisher(connection, ""), Subscriber(connection)
    publisher.publish(np.zeros(7, np.float32), 0, 1.0)
    local.close()
    with pytest.raises(ReplayError, match=f"{local.address} does not answer"):
        subscriber.latest()
    with pytest.raises(ReplayError, match=f"{local.address} does not answer"):
        publisher.publish(np.zeros(7, np.float32), 0, 1.0)
    subscriber.close()
    connection.close()
