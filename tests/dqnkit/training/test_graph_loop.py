"""What the graph loop alone promises; the rest is in test_loops.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit.config import Config
from dqnkit.resolution import resolve
from dqnkit.training.parts import build
from tests.dqnkit.training.test_loops import assert_same

RAINBOW = (
    *("agent.kind=double_c51", "agent.n_step=3", "network.dueling=true"),
    *("replay.kind=prioritized", "exploration.policy=boltzmann", "optimizer.schedule=cosine"),
)


@pytest.mark.parametrize(
    ("env_id", "variant"),
    [("CartPole-v1", ()), ("Acrobot-v1", ()), ("FrozenLake-v1", ()), ("CartPole-v1", RAINBOW)],
)
def test_a_restored_loop_goes_on_bit_for_bit(
    small: Callable[..., Config], env_id: str, variant: tuple[str, ...]
) -> None:
    config, spec = resolve(small("env.num_envs=2", f"env.id={env_id}", *variant))
    straight, restored = build(config, spec).loop, build(config, spec).loop
    straight.start()
    straight.advance(25)
    restored.restore(straight.state())
    straight.advance(35)
    restored.start()
    restored.advance(35)
    assert_same(straight.state(), restored.state())
