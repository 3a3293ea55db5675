from __future__ import annotations

from collections.abc import Callable

import pytest

from dqnkit.config.sections import Config
from dqnkit.runs.descriptions import agent


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ((), "DQN"),
        (("agent.kind=double_dqn", "network.dueling=true"), "Double DQN, dueling"),
        (
            ("agent.kind=c51", "agent.n_step=3", "replay.kind=prioritized"),
            "C51, 3-step returns, prioritized replay",
        ),
    ],
)
def test_an_agent_is_called_what_the_field_calls_it(
    small: Callable[..., Config], assignments: tuple[str, ...], words: str
) -> None:
    assert agent(small(*assignments)) == words
