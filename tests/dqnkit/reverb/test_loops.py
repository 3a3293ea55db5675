"""Loops whose replay is Reverb's; what they share with the others is in test_host_loop.py."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.loops.host import HostLoop
from dqnkit.runs.components import build
from dqnkit.runs.trainer import train
from dqnkit.tracking import make_tracker
from tests.dqnkit.replay.host_replays import held, needs_reverb
from tests.processes import runs

pytestmark = needs_reverb
Small = Callable[..., Config]
REVERB = "replay.kind=reverb"
PRIORITIZED = "replay.sampler=prioritized"


def _loop(config: Config, **kwargs: object) -> HostLoop:
    update = {"id": "tests.environments:Corridor-v0", "kwargs": kwargs}
    env = config.env.model_copy(update=update)
    return HostLoop(*resolve(config.model_copy(update={"env": env})))


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
def test_every_kind_of_observation_trains(
    small: Small, observe: str, settings: tuple[str, ...]
) -> None:
    loop = _loop(small("env.num_envs=2", REVERB, *settings), observe=observe, length=6)
    loop.start()
    metrics = loop.advance(20)
    assert np.isfinite(metrics[-1].loss)
    assert metrics[-1].return_mean == 60.0
    loop.close()


@pytest.mark.parametrize("sampler", ["uniform", "prioritized"])
def test_a_restored_loop_has_all_but_the_episodes_that_were_under_way(
    small: Small, sampler: str
) -> None:
    config = small("env.num_envs=2", REVERB, f"replay.sampler={sampler}")
    loop, restored = _loop(config), _loop(config)
    loop.start()
    loop.advance(25)  # in the middle of an episode and of a log interval
    kept = loop.state()
    before = held(loop._replay)
    restored.restore(kept)
    restored.start()
    assert (restored.iteration, restored.env_steps) == (25, loop.env_steps)
    np.testing.assert_array_equal(loop.policy_weights(), restored.policy_weights())
    after = held(restored._replay)
    for name in ("frames", "scalars", "priorities"):
        mine, theirs = (getattr(each, name) for each in (before, after))
        if mine is not None:
            order, other = (np.argsort(each.rows) for each in (before, after))
            np.testing.assert_array_equal(mine[order], theirs[other])
    metrics = restored.advance(35)
    assert [m.iteration for m in metrics] == [30, 40, 50, 60]
    # What follows is whole: no transition joins the old episode to the new one.
    following = held(restored._replay).frames[..., 0]
    np.testing.assert_array_equal(following[:, 1], following[:, 0] + 1)
    for each in (loop, restored):
        each.close()


def test_it_is_no_loop_of_the_graph(small: Small) -> None:
    assert resolve(small(REVERB))[0].training.loop == "host"
    with pytest.raises(ConfigError, match=r"training.loop=graph: replay.kind=reverb"):
        resolve(small(REVERB, "training.loop=graph"))


def test_so_many_environments_are_refused(small: Small) -> None:
    config, spec = resolve(small(REVERB, "env.num_envs=300", "replay.replay_buffer_max_length=900"))
    with pytest.raises(ConfigError, match=r"env.num_envs=300: replay.kind=reverb takes at most"):
        build(config, spec)


def test_an_iteration_of_a_learner_costs_as_many_steps_as_one_of_the_host_loop(
    small: Small,
) -> None:
    result = train(
        small(
            REVERB,
            *("training.num_actors=1", "env.num_envs=2", "training.num_iterations=600"),
            *("evaluation.eval_interval=300", "replay.replay_buffer_max_length=5_000"),
        )
    )
    # 2 environments an iteration; Reverb's limiter leaves 200 transitions and two samples.
    assert result.env_steps == pytest.approx(20 + 600 * 2, abs=250)
    assert result.iterations == 600
    steps = [each.env_steps for each in result.evaluations]
    assert steps == sorted(steps)


@pytest.mark.parametrize("actors", [None, 1])
@pytest.mark.parametrize(
    "settings",
    [
        # Fewer initial steps than a return takes, and more than the replay keeps.
        ("agent.n_step=5", "training.initial_collect_steps=2"),
        ("training.initial_collect_steps=900", "replay.replay_buffer_max_length=300"),
        ("agent.n_step=3", "env.num_envs=8"),
    ],
)
def test_nobody_waits_for_ever_at_the_beginning(
    small: Small, actors: int | None, settings: tuple[str, ...]
) -> None:
    more = () if actors is None else (f"training.num_actors={actors}",)
    result = train(small(REVERB, *settings, *more))
    assert result.iterations == 60
    assert np.isfinite(result.final.summary.mean)


def test_one_process_with_a_server_elsewhere_keeps_its_own_ratio(small: Small) -> None:
    from dqnkit.reverb.serving import serving

    settings = (REVERB, "agent.n_step=3", "env.num_envs=8", "training.num_iterations=200")
    config, spec = resolve(small(*settings))
    with serving(config, spec, host="127.0.0.1", port=None, folder=None) as served:
        config = small(*settings, f"replay.address=127.0.0.1:{served.port}")
        result = train(config)
        with pytest.raises(ConfigError, match="transitions of another run"):
            train(config, make_tracker(config))
    assert result.env_steps == 24 + 200 * 8
    assert runs() == []


def test_a_long_evaluation_is_no_stall(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    from dqnkit.reverb import learner

    config, spec = resolve(small(REVERB, "training.num_actors=1"))
    loop = build(config, spec).loop
    loop.start()
    monkeypatch.setattr(learner, "_STALLED_SECONDS", 1.5)
    for _ in range(2):
        loop.advance(5)
        time.sleep(2.5)  # in which actors come to the limiter, and wait
    loop.close()


def test_a_learner_without_actors_hears_that_it_is_to_end(small: Small) -> None:
    from dqnkit.reverb.serving import serving

    config, spec = resolve(small(REVERB))
    with serving(config, spec, host="127.0.0.1", port=None, folder=None) as served:
        address = f"replay.address=127.0.0.1:{served.port}"
        config, spec = resolve(small(REVERB, address, "training.num_actors=0"))
        asked: list[float] = []

        def interrupted() -> bool:
            asked.append(time.monotonic())
            return len(asked) > 3

        loop = build(config, spec, interrupted).loop
        loop.start()
        assert (loop.iteration, loop.env_steps) == (0, 0)
        assert loop.advance(10) == []
        assert loop.iteration == 0
        kept = loop.state()
        loop.close()
        again = build(config, spec, lambda: True).loop
        again.restore(kept)
        again.close()


def test_a_checkpoint_that_reverb_cannot_write_costs_no_run(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from dqnkit.reverb.replay import ReverbReplay

    config, spec = resolve(small(REVERB))
    loop = HostLoop(config, spec)
    loop.start()
    replay = loop._replay
    assert isinstance(replay, ReverbReplay)
    assert replay._folder is not None
    shutil.rmtree(replay._folder)
    replay._folder.write_text("in the way")
    with pytest.raises(OSError, match="Reverb writes no checkpoint"):
        loop.state()
    loop.advance(10)
    loop.close()


@pytest.mark.slow
def test_the_tutorial_is_learnt_from_two_actors() -> None:
    """As in one process, where ten of ten seeds reach 195 (docs/benchmarks.md)."""
    best = [
        train(
            loading.load("tutorial-reverb", ["training.num_actors=2", f"training.seed={seed}"])
        ).best.summary.mean
        for seed in (10, 11)
    ]
    assert min(best) >= 195.0, best


def test_what_cannot_be_made_leaves_no_server_and_no_folder(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dqnkit.loops import host
    from dqnkit.reverb import learner

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="keep fewer transitions"):
        HostLoop(*resolve(small(REVERB, "replay.replay_buffer_max_length=900000000000")))
    monkeypatch.setattr(host, "VectorEnvironment", fails)
    monkeypatch.setattr(learner, "Updates", fails)
    for settings in ((REVERB,), (REVERB, "training.num_actors=1")):
        with pytest.raises(RuntimeError, match="not here"):
            build(*resolve(small(*settings)))
    assert list(tmp_path.iterdir()) == []
