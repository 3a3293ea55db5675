"""Replay in Reverb: what it has beyond the contract of `HostReplay` (tests/dqnkit/replay)."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.loops import host
from dqnkit.loops.host import HostLoop
from dqnkit.reverb import connection
from dqnkit.reverb.replay import ReverbReplay, make_reverb_replay
from dqnkit.reverb.server import serve_experiment
from dqnkit.reverb.tables import TransitionSpec
from dqnkit.runs.trainer import train
from tests.dqnkit.replay.host_replays import held, spec
from tests.dqnkit.reverb.helpers import (
    LOCAL,
    RNG,
    add,
    remote_config,
    remote_replay,
    reverb_config,
)
from tests.processes import runs
from tests.servers import free_port

Small = Callable[..., Config]
REVERB = "replay.kind=reverb"
PRIORITIZED = "replay.sampler=prioritized"


def _replay(*assignments: str) -> ReverbReplay:
    return ReverbReplay(reverb_config(*assignments).replay, 1, TransitionSpec(spec()))


def _loop(config: Config, **kwargs: object) -> HostLoop:
    """The host loop in a Corridor."""
    update = {"id": "tests.environments:Corridor-v0", "kwargs": kwargs}
    env = config.env.model_copy(update=update)
    config, env_spec = resolve(config.model_copy(update={"env": env}))
    return HostLoop(config, env_spec, make_reverb_replay(config, env_spec))


# -- A server in this process


@pytest.mark.parametrize("size", [8, 64, 500])
def test_two_samples_are_drawn_ahead_at_most(size: int) -> None:
    replay = _replay("replay.replay_buffer_max_length=1_000")
    add(replay, 600)
    for number in range(1, 6):
        replay.sample(RNG, size)
        time.sleep(0.2)
        drawn = replay.server.info().rate_limiter_info.sample_stats.completed
        assert number * size <= drawn <= (number + 2) * size
    replay.close()


def test_new_transitions_have_the_highest_priority_so_far() -> None:
    replay = _replay(PRIORITIZED, "replay.alpha=1")
    add(replay, 2)
    replay.update_priorities(held(replay).rows, np.float32([0.5, 4.0]))
    add(replay, 1)
    add(replay, 0)  # flushes
    assert replay.num_transitions == 3
    priorities = held(replay).priorities
    assert priorities is not None
    assert sorted(priorities) == pytest.approx([0.5, 4.0, 4.0], abs=1e-5)
    replay.close()


def test_a_uniform_replay_ignores_priorities() -> None:
    replay = _replay()
    add(replay, 2)
    sample = held(replay)
    assert sample.priorities is None
    replay.update_priorities(sample.rows, np.float32([0.5, 4.0]))
    assert replay.max_priority == 1.0
    replay.close()


def test_a_state_contains_the_files_of_a_checkpoint_and_leaves_none() -> None:
    replay = _replay()
    add(replay, 5)
    state = replay.state()
    assert int(state["count"]) == 5
    assert any(name.startswith("files/") and name.endswith("DONE") for name in state)
    assert replay._folder is not None
    assert list(replay._folder.iterdir()) == []
    replay.close()
    assert not replay._folder.exists()


def test_a_state_of_another_kind_of_replay_is_rejected() -> None:
    replay = _replay()
    with pytest.raises(ConfigError, match="the saved replay holds no Reverb checkpoint"):
        replay.restore({"count": np.array(0)})
    replay.close()


def test_too_many_environments_are_rejected() -> None:
    config, env_spec = resolve(
        reverb_config("env.num_envs=300", "replay.replay_buffer_max_length=900")
    )
    with pytest.raises(ConfigError, match=r"env\.num_envs=300: replay\.kind=reverb allows at most"):
        make_reverb_replay(config, env_spec)


def test_a_host_loop_has_limits_only_where_its_replay_is_shared() -> None:
    config, env_spec = resolve(reverb_config())
    replay = make_reverb_replay(config, env_spec)
    assert replay._limits.samples_per_insert is None
    replay.close()
    config, env_spec = resolve(reverb_config("replay.samples_per_insert=8"))
    replay = make_reverb_replay(config, env_spec)
    assert replay._limits.samples_per_insert == 8.0
    replay.close()


# -- A server elsewhere


def test_a_remote_replay_works_like_a_local_one() -> None:
    config, env_spec = resolve(remote_config(1))
    with serve_experiment(config, env_spec, **LOCAL) as served:
        replay = remote_replay(served.port)
        add(replay, 60, size=4)
        assert replay.num_transitions == served.num_transitions == 50  # the first flushes
        assert replay.num_inserted == 60
        sample = replay.sample(RNG, 40)
        assert set(sample.scalars[:, 1]) <= set(range(10, 60))
        assert sorted(held(replay).scalars[:, 1]) == list(range(10, 60))
        replay.close()
        assert served.num_transitions == 50


def test_the_transitions_of_another_run_are_rejected() -> None:
    config, env_spec = resolve(remote_config(1))
    with serve_experiment(config, env_spec, **LOCAL) as served:
        first = remote_replay(served.port)
        add(first, 1, size=4)
        state = first.state()
        first.close()
        second = remote_replay(served.port)
        with pytest.raises(ConfigError, match="holds 1 transitions of another run"):
            second.check()
        second.restore(state)
        second.check()
        add(second, 0, size=4)
        second.close()


def test_a_server_keeps_its_checkpoint_and_the_state_refers_to_it(tmp_path: Path) -> None:
    port = free_port()
    config, env_spec = resolve(remote_config(port))
    local = {"host": "127.0.0.1", "port": port}
    with serve_experiment(config, env_spec, checkpoints=tmp_path, **local):
        replay = remote_replay(port)
        add(replay, 5, size=4)
        replay.max_priority = 7.0
        state = replay.state()
        assert not [name for name in state if name.startswith("files/")]
        replay.close()
    with serve_experiment(config, env_spec, checkpoints=None, **local):
        empty = remote_replay(port)
        with pytest.raises(ConfigError, match="`dqnkit replay-server` with its folder"):
            empty.restore(state)
        empty.close()
    with serve_experiment(config, env_spec, checkpoints=tmp_path, **local):
        again = remote_replay(port)
        again.restore(state)
        assert (again.num_transitions, again.max_priority) == (5, 7.0)
        again.close()


def test_a_server_that_is_gone_raises_replay_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT_SECONDS", 3.0)
    config, env_spec = resolve(remote_config(1))
    with serve_experiment(config, env_spec, **LOCAL) as served:
        replay = remote_replay(served.port)
        add(replay, 200, size=4)
        replay.sample(RNG, 8)
    with pytest.raises(ReplayError, match="does not answer"):  # noqa: PT012 - some are prefetched
        for _ in range(100):
            replay.sample(RNG, 8)
    replay.close()


def test_a_limiter_that_blocks_for_too_long_raises_replay_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, env_spec = resolve(remote_config(1))
    with serve_experiment(config, env_spec, **LOCAL) as served:
        replay = remote_replay(served.port)
        monkeypatch.setattr(connection, "TIMEOUT_SECONDS", 1.5)
        add(replay, 1, size=4)
        with pytest.raises(ReplayError, match="its rate limiter waits for other processes"):
            replay.sample(RNG, 8)
        replay.close()


# -- In the host loop


@pytest.mark.parametrize(
    ("observe", "settings"),
    [
        ("state", ()),
        ("state", (PRIORITIZED, "agent.n_step=3", "training.gradient_steps_per_iteration=2")),
        ("discrete", ("agent.n_step=2",)),
        ("image", ("network.conv_layer_params=[[4, 3, 1]]", "env.frame_stack=3")),
        ("image", ("network.conv_layer_params=[]", "env.frame_stack=2", "agent.n_step=4")),
        ("bits", ("network.conv_layer_params=[[4, 3, 1]]", PRIORITIZED)),
    ],
)
def test_a_host_loop_trains_on_every_kind_of_observation(
    small: Small, observe: str, settings: tuple[str, ...]
) -> None:
    loop = _loop(small("env.num_envs=2", REVERB, *settings), observe=observe, length=6)
    loop.start()
    metrics = loop.advance(20)
    assert np.isfinite(metrics[-1].loss)
    assert metrics[-1].return_mean == 60.0
    loop.close()


@pytest.mark.parametrize("sampler", ["uniform", "prioritized"])
def test_a_restored_host_loop_continues_with_new_episodes(small: Small, sampler: str) -> None:
    config = small("env.num_envs=2", REVERB, f"replay.sampler={sampler}")
    loop, restored = _loop(config), _loop(config)
    loop.start()
    loop.advance(25)  # in the middle of an episode and of a log interval
    state = loop.state()
    before = held(loop._replay)
    restored.restore(state)
    restored.start()
    assert (restored.iteration, restored.env_steps) == (25, loop.env_steps)
    np.testing.assert_array_equal(loop.policy_weights(), restored.policy_weights())
    after = held(restored._replay)
    for name in ("frames", "scalars", "priorities"):
        saved, loaded = (getattr(each, name) for each in (before, after))
        if saved is not None:
            order, other_order = (np.argsort(each.rows) for each in (before, after))
            np.testing.assert_array_equal(saved[order], loaded[other_order])
    metrics = restored.advance(35)
    assert [m.iteration for m in metrics] == [30, 40, 50, 60]
    # No transition joins an old episode to a new one: the state counts up by 1.
    frames = held(restored._replay).frames[..., 0]
    np.testing.assert_array_equal(frames[:, 1], frames[:, 0] + 1)
    for each in (loop, restored):
        each.close()


def test_the_graph_loop_is_rejected(small: Small) -> None:
    assert resolve(small(REVERB))[0].training.loop == "host"
    with pytest.raises(ConfigError, match=r"training\.loop=graph: replay\.kind=reverb"):
        resolve(small(REVERB, "training.loop=graph"))


def test_a_checkpoint_that_cannot_be_written_raises_os_error_and_training_continues(
    small: Small,
) -> None:
    loop = _loop(small(REVERB))
    loop.start()
    replay = loop._replay
    assert isinstance(replay, ReverbReplay)
    assert replay._folder is not None
    shutil.rmtree(replay._folder)
    replay._folder.write_text("in the way")
    with pytest.raises(OSError, match="Reverb writes no checkpoint"):
        loop.state()
    assert loop.advance(10)
    loop.close()


def test_a_failed_construction_leaves_no_folder(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="keep fewer transitions"):
        _loop(small(REVERB, "replay.replay_buffer_max_length=900000000000"))
    monkeypatch.setattr(host, "VectorEnvironment", fail)
    with pytest.raises(RuntimeError, match="not here"):
        _loop(small(REVERB))
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_one_process_keeps_its_ratio_with_a_remote_server(small: Small) -> None:
    settings = (REVERB, "agent.n_step=3", "env.num_envs=8", "training.num_iterations=200")
    config, env_spec = resolve(small(*settings))
    with serve_experiment(config, env_spec, **LOCAL) as served:
        config = small(*settings, f"replay.address=127.0.0.1:{served.port}")
        result = train(config, tracking_uri=None)
        with pytest.raises(ConfigError, match="transitions of another run"):
            train(config)
    assert result.env_steps == 24 + 200 * 8
    assert runs() == []
