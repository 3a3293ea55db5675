"""Properties of the graph loop alone; `test_base` has those of both loops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.runs.components import make_loop
from tests.dqnkit.loops.test_base import assert_same

RAINBOW = (
    *("agent.kind=double_c51", "agent.n_step=3", "network.dueling=true"),
    *("replay.kind=prioritized", "exploration.policy=boltzmann", "optimizer.schedule=cosine"),
)


@pytest.mark.parametrize(
    ("env_id", "variant"),
    [
        ("FrozenLake-v1", ()),
        ("CartPole-v1", RAINBOW),
        pytest.param("CartPole-v1", (), marks=pytest.mark.slow),
        pytest.param("Acrobot-v1", (), marks=pytest.mark.slow),
    ],
)
def test_a_restored_loop_continues_bit_for_bit(
    small: Callable[..., Config], env_id: str, variant: tuple[str, ...]
) -> None:
    config, spec = resolve(
        small("training.loop=graph", "env.num_envs=2", f"env.id={env_id}", *variant)
    )
    straight, restored = make_loop(config, spec), make_loop(config, spec)
    straight.start()
    straight.advance(25)
    restored.restore(straight.state())
    straight.advance(35)
    restored.start()
    restored.advance(35)
    assert_same(straight.state(), restored.state())


def test_the_state_of_another_replay_is_refused(small: Callable[..., Config]) -> None:
    uniform, prioritized, longer = (
        make_loop(*resolve(small("training.loop=graph", *assignments)))
        for assignments in (
            (),
            ("replay.kind=prioritized",),
            ("replay.replay_buffer_max_length=600",),
        )
    )
    uniform.start()
    with pytest.raises(ConfigError, match="'loop/"):
        uniform.restore(prioritized.state())
    with pytest.raises(ConfigError, match="'loop/"):
        prioritized.restore(uniform.state())
    longer.restore(uniform.state())  # the same table, only less of it is filled
