from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb import learner_loop
from dqnkit.reverb.broadcast import Publisher, Subscriber
from dqnkit.reverb.connection import ServerConnection
from dqnkit.reverb.learner_loop import LearnerLoop
from dqnkit.reverb.server import StandaloneServer, serve_experiment
from dqnkit.runs.trainer import train
from tests.dqnkit.reverb.helpers import LOCAL

Small = Callable[..., Config]
REVERB = "replay.kind=reverb"


@pytest.fixture
def server(small: Small) -> Iterator[StandaloneServer]:
    with serve_experiment(*resolve(small(REVERB)), **LOCAL) as served:
        yield served


@pytest.fixture
def remote(small: Small, server: StandaloneServer) -> Config:
    """The configuration of a learner without actors at the server."""
    address = f"replay.address=127.0.0.1:{server.port}"
    return small(REVERB, address, "training.num_actors=0")


def _calls_until(count: int) -> Callable[[], bool]:
    """An `interrupted` that is true from a call on."""
    calls = iter(range(1_000_000))
    return lambda: next(calls) >= count


def test_an_iteration_takes_as_many_steps_as_in_the_host_loop(small: Small) -> None:
    result = train(
        small(
            REVERB,
            *("training.num_actors=1", "env.num_envs=2", "training.num_iterations=600"),
            *("evaluation.eval_interval=300", "replay.replay_buffer_max_length=5_000"),
        ),
        tracking_uri=None,
    )
    # 2 environments per iteration; the rate limiter allows for 200 transitions and two samples.
    assert result.env_steps == pytest.approx(20 + 600 * 2, abs=250)
    assert result.iterations == 600
    steps = [each.env_steps for each in result.evaluations]
    assert steps == sorted(steps)


@pytest.mark.parametrize("actors", [None, 1])
@pytest.mark.parametrize(
    "settings",
    [
        # Fewer initial steps than an n-step return has, and more than the replay keeps.
        ("agent.n_step=5", "training.initial_collect_steps=2"),
        ("training.initial_collect_steps=900", "replay.replay_buffer_max_length=300"),
        ("agent.n_step=3", "env.num_envs=8"),
    ],
)
def test_the_rate_limiter_never_blocks_the_beginning(
    small: Small, actors: int | None, settings: tuple[str, ...]
) -> None:
    more = () if actors is None else (f"training.num_actors={actors}",)
    result = train(small(REVERB, *settings, *more), tracking_uri=None)
    assert result.iterations == 60
    assert np.isfinite(result.final.summary.mean)


def test_an_evaluation_between_two_calls_is_no_stall(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = LearnerLoop(*resolve(small(REVERB, "training.num_actors=1")))
    loop.start()
    monkeypatch.setattr(learner_loop, "_STALLED_SECONDS", 1.5)
    for _ in range(2):
        loop.advance(5)
        time.sleep(2.5)  # the rate limiter blocks the actors meanwhile
    loop.close()


def test_a_learner_without_transitions_gives_up(
    remote: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_loop, "_STALLED_SECONDS", 0.5)
    loop = LearnerLoop(*resolve(remote))
    command = rf"`dqnkit actor --connect {remote.replay.address}`"
    with pytest.raises(ReplayError, match=rf"no transition has come.*{command}"):
        loop.start()
    loop.close()


def test_a_wait_for_actors_is_interrupted(remote: Config) -> None:
    config, spec = resolve(remote)
    loop = LearnerLoop(config, spec, _calls_until(3))
    loop.start()
    assert (loop.iteration, loop.env_steps) == (0, 0)
    assert loop.advance(10) == []
    assert loop.flush() == []
    assert loop.iteration == 0
    state = loop.state()
    loop.close()
    again = LearnerLoop(config, spec, lambda: True)
    again.restore(state)
    again.close()


def test_the_state_of_another_loop_is_rejected(remote: Config) -> None:
    loop = LearnerLoop(*resolve(remote))
    with pytest.raises(ConfigError, match="the saved state has no 'loop/iteration'"):
        loop.restore({})
    loop.close()


def test_a_second_learner_is_rejected_while_the_first_publishes(
    remote: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = LearnerLoop(*resolve(remote))
    loop.check()
    connection = ServerConnection(str(remote.replay.address))
    publisher = Publisher(connection, "")

    def sleep_and_publish(_: float) -> None:
        publisher.publish(np.zeros(1, np.float32), 0, 1.0)

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", sleep_and_publish)
        with pytest.raises(ConfigError, match="another learner trains with the server there"):
            loop.check()
    loop.check()
    loop.close()
    connection.close()


def test_remote_actors_learn_whether_the_run_is_complete(remote: Config) -> None:
    config, spec = resolve(remote)
    connection = ServerConnection(str(config.replay.address))
    subscriber = Subscriber(connection)
    loop = LearnerLoop(config, spec, _calls_until(3))
    loop.start()
    state = subscriber.latest()
    assert state is not None
    assert state.config == loading.dump(config)
    np.testing.assert_array_equal(state.weights, loop.policy_weights())
    loop.close()
    assert subscriber.latest() is None  # interrupted: they wait
    loop = LearnerLoop(config, spec, _calls_until(3))
    loop.start()
    loop._iteration = config.training.num_iterations
    loop.close()
    state = subscriber.latest()
    assert state is not None
    assert state.is_over
    subscriber.close()
    connection.close()


def test_steps_are_counted_on_when_the_server_restarts(
    remote: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = LearnerLoop(*resolve(remote))
    counts = iter([100, 130, 20, 50])
    monkeypatch.setattr(type(loop._replay), "num_inserted", property(lambda _: next(counts)))
    steps = []
    for _ in range(4):
        loop._count_steps()
        steps.append(loop.env_steps)
    assert steps == [100, 130, 130, 160]
    assert loop._interval.steps == 160
    monkeypatch.undo()
    loop.close()


@pytest.mark.parametrize(
    ("server_count", "expected"),
    [
        (150, 150),  # the server kept running, and 50 transitions have arrived
        (30, 100),  # the server was restarted with 30 transitions of its checkpoint
    ],
)
def test_a_restored_learner_counts_what_arrived_since_the_checkpoint(
    remote: Config, monkeypatch: pytest.MonkeyPatch, server_count: int, expected: int
) -> None:
    config, spec = resolve(remote)
    loop, restored = LearnerLoop(config, spec), LearnerLoop(config, spec)
    count = 100
    monkeypatch.setattr(type(loop._replay), "num_inserted", property(lambda _: count))
    state = loop.state()
    count = server_count
    restored.restore(state)
    assert restored.env_steps == 100
    restored._count_steps()
    assert restored.env_steps == expected
    count += 5
    restored._count_steps()
    assert restored.env_steps == expected + 5
    monkeypatch.undo()
    loop.close()
    restored.close()


def test_a_failed_construction_leaves_no_server_and_no_folder(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(learner_loop, "CompiledUpdates", fail)
    with pytest.raises(RuntimeError, match="not here"):
        LearnerLoop(*resolve(small(REVERB, "training.num_actors=1")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_tutorial_is_learned_from_two_actors() -> None:
    """A single process reaches 195 with ten of ten seeds (docs/benchmarks.md)."""
    best = [
        train(
            loading.load("tutorial-reverb", ["training.num_actors=2", f"training.seed={seed}"]),
            tracking_uri=None,
        ).best.summary.mean
        for seed in (10, 11)
    ]
    assert min(best) >= 195.0, best
