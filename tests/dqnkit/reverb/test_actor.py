from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import numpy as np
import pytest

from dqnkit.agents import networks
from dqnkit.config import loading
from dqnkit.config.random_streams import Stream, stream_key
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import DqnkitError, ReplayError, UnsupportedEnvironmentError
from dqnkit.processes.launcher import LocalLauncher
from dqnkit.reverb import actor as actors
from dqnkit.reverb.actor import Actor, act, serve_actor
from dqnkit.reverb.broadcast import LearnerState, Publisher
from dqnkit.reverb.connection import ServerConnection
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.server import serve_experiment
from dqnkit.reverb.tables import RateLimits, TransitionSpec
from tests.dqnkit.reverb.helpers import LOCAL, RNG
from tests.servers import free_port

Small = Callable[..., Config]


class _Learner:
    """A server with a publisher, but no updates, for actors in a Corridor of 5 steps."""

    def __init__(self, config: Config, port: int) -> None:
        address = f"127.0.0.1:{port}"
        self.config, self.spec = resolve(config)
        self.address = address
        self.connection = ServerConnection(address)
        self.publisher = Publisher(self.connection, loading.dump(self.config))
        network = networks.make_network(self.config, self.spec, stream_key(0, Stream.WEIGHTS))
        self.weights = network.parameters.numpy()

    def publish(self, env_steps: int = 0, priority: float = 1.0, *, is_over: bool = False) -> None:
        self.publisher.publish(self.weights, env_steps, priority, is_over=is_over)

    def state(self, env_steps: int = 0) -> LearnerState:
        return LearnerState(loading.dump(self.config), self.weights, env_steps, 1.0, False)

    @property
    def num_inserted(self) -> int:
        info = self.connection.info()
        return int(info.rate_limiter_info.insert_stats.completed)

    def wait_for_transitions(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while self.num_inserted < count:
            assert time.monotonic() < deadline, "no transition comes"
            time.sleep(0.05)

    def sample(self) -> np.ndarray:
        """Action, reward and discount of transitions that the limiter allows, float32 [16, 3]."""
        layout = TransitionSpec(self.spec, self.config.agent.n_step, self.config.agent.gamma)
        replay_config = self.config.replay.model_copy(update={"address": self.address})
        replay = ReverbReplay(replay_config, 0, layout, RateLimits.from_config(self.config))
        scalars = replay.sample(RNG, 16).scalars
        replay.close()
        return scalars


@pytest.fixture
def learner(small: Small) -> Iterator[_Learner]:
    config = small(
        "replay.kind=reverb",
        "env.id=tests.environments:Corridor-v0",
        "env.num_envs=2",
        "training.num_actors=0",
        "replay.address=127.0.0.1:1",
    )
    with serve_experiment(*resolve(config), **LOCAL) as served:
        made = _Learner(config, served.port)
        yield made
        made.connection.close()


@contextlib.contextmanager
def _running(function: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Run a function in a thread, and wait for it at the end; yields its exceptions."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield errors
    thread.join(60)
    assert not thread.is_alive()


def test_an_actor_collects_until_the_run_is_complete(learner: _Learner) -> None:
    learner.publish()
    actor = Actor(learner.address, 0, learner.state())
    assert actor.description == "acting in tests.environments:Corridor-v0 for the experiment small"
    with _running(actor.run) as errors:
        learner.wait_for_transitions(20)
        learner.publish(20, is_over=True)
    assert errors == []
    actor.close()
    episodes = learner.publisher.episodes()
    assert len(episodes) >= 2
    assert set(episodes) == {(50.0, 5.0)}
    scalars = learner.sample()
    assert set(scalars[:, 0]) <= {0.0, 1.0, 2.0}
    assert set(scalars[:, 1]) == {10.0}
    assert set(scalars[:, 2]) <= {0.0, 1.0}


def test_initial_actions_are_random_and_later_ones_follow_the_policy(
    learner: _Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = Actor(learner.address, 0, learner.state(env_steps=0))
    actor._environment.reset(actor._seeds)
    actor._begin_episodes(np.arange(2))
    taken: list[np.ndarray] = []
    step = actor._environment.step

    def record(actions: np.ndarray) -> object:
        taken.append(actions)
        return step(actions)

    monkeypatch.setattr(actor._environment, "step", record)
    monkeypatch.setattr(actor, "_q_values", lambda: np.float32([[0, 0, 1], [0, 1, 0]]))
    monkeypatch.setattr(actor, "_exploration", lambda _: 0.0)
    for _ in range(20):
        actor._step()
    assert {action for actions in taken for action in actions.tolist()} == {0, 1, 2}
    actor._apply(learner.state(env_steps=10_000_000))
    for _ in range(3):
        actor._step()
        assert taken[-1].tolist() == [2, 1]
    actor.close()


def test_new_weights_and_priorities_are_applied(learner: _Learner) -> None:
    actor = Actor(learner.address, 0, learner.state())
    learner.weights = learner.weights + 1.0
    learner.publish(7, priority=3.0)
    actor._refresh()
    np.testing.assert_array_equal(actor._network.parameters.numpy(), learner.weights)
    assert [writer.priority for writer in actor._writers] == [3.0, 3.0]
    assert actor._state.env_steps == 7
    actor.close()


def test_actors_have_different_seeds(learner: _Learner) -> None:
    seeds = []
    for number, steps in ((0, 0), (1, 0), (0, 500)):
        actor = Actor(learner.address, number, learner.state(steps))
        seeds += list(actor._seeds)
        actor.close()
    assert len(set(seeds)) == 6


@pytest.mark.parametrize("change", ["withdrawn", "another run"])
def test_an_actor_leaves_a_learner_that_is_not_its_own(learner: _Learner, change: str) -> None:
    learner.publish()
    actor = Actor(learner.address, 0, learner.state())
    if change == "withdrawn":
        learner.publisher.withdraw()
    else:
        Publisher(learner.connection, "another").publish(learner.weights, 0, 1.0)
    with pytest.raises(actors._LearnerChangedError):
        actor._refresh()
    actor.close()


def test_act_waits_for_the_next_learner(learner: _Learner) -> None:
    reports: list[str] = []
    learner.publish()
    with _running(lambda: act(learner.address, 0, patience=30.0, report=reports.append)) as errors:
        learner.wait_for_transitions(10)
        learner.publisher.withdraw()
        deadline = time.monotonic() + 30
        while not any("restarted" in text for text in reports):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        learner.publish(is_over=True)
    assert errors == []
    acting = "acting in tests.environments:Corridor-v0 for the experiment small"
    restarted = f"the server at {learner.address} was restarted, or has another run"
    assert reports == [acting, restarted, acting, "the run is complete"]


def test_act_gives_up_without_a_learner(learner: _Learner) -> None:
    with pytest.raises(ReplayError, match=r"no learner has come .* within 0 s.*`dqnkit train`"):
        act(learner.address, 0, patience=0.0)


def test_act_gives_up_without_a_server() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(ReplayError, match=f"{address} does not answer"):
        act(address, 0, patience=0.0)


def test_act_tries_again_within_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "_RETRY_SECONDS", 0.05)
    attempts: list[float] = []

    def fail(*_: object) -> LearnerState:
        attempts.append(time.monotonic())
        raise ReplayError("no server")

    monkeypatch.setattr(actors, "_wait_for_learner", fail)
    reports: list[str] = []
    with pytest.raises(ReplayError, match="no server"):
        act("a:1", 0, patience=0.5, report=reports.append)
    assert 3 <= len(attempts) == len(reports) + 1
    assert set(reports) == {"no server; trying again"}


def _serve_without_environment(
    connection: Connection, output: str | None, memory_limit: int
) -> None:
    """An actor process whose environment cannot be made."""

    def fail(*_: object, **__: object) -> None:
        raise UnsupportedEnvironmentError("no such environment")

    actors.act = fail
    serve_actor(connection, output, memory_limit, address="a:1", number=0)


def _serve_without_server(connection: Connection, output: str | None, memory_limit: int) -> None:
    """An actor process whose server does not answer."""

    def fail(*_: object, **__: object) -> None:
        raise ReplayError("no server")

    actors.act = fail
    serve_actor(connection, output, memory_limit, address="a:1", number=0)


def _serve_in_vain(connection: Connection, output: str | None, memory_limit: int) -> None:
    """An actor process that acts until it is interrupted."""

    def wait(*_: object, **__: object) -> None:
        connection.send("acting")
        while True:
            time.sleep(0.01)

    actors.act = wait
    serve_actor(connection, output, memory_limit, address="a:1", number=0)


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    local = LocalLauncher()
    yield local
    local.close()


def test_a_process_that_cannot_act_sends_its_error(launcher: LocalLauncher) -> None:
    handle = launcher.start(_serve_without_environment, 0, 1)
    error = handle.connection.recv()
    assert isinstance(error, DqnkitError)
    assert str(error) == "no such environment"
    assert handle.join(30)


def test_a_process_without_a_server_exits_with_status_1(launcher: LocalLauncher) -> None:
    handle = launcher.start(_serve_without_server, 0, 1)
    with pytest.raises(EOFError):
        handle.connection.recv()
    assert handle.exit_cause() == "its process ended with status 1"


def test_a_process_ends_with_its_learner(launcher: LocalLauncher) -> None:
    handle = launcher.start(_serve_in_vain, 0, 1)
    assert handle.connection.recv() == "acting"
    handle.connection.close()
    assert handle.join(10)
    assert handle.exit_cause() == "its process ended with status 0"
