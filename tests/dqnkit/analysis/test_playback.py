from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.analysis.playback import GreedyPlayer, RandomPlayer, RenderedStep, play
from tests.dqnkit.analysis.played import Alternating, Countdown, rendered
from tests.specs import vector_spec


def _play(environment: Countdown, max_steps: int = 100) -> list[RenderedStep]:
    return list(play(rendered(environment), Alternating(), 2, 17, max_steps))


def test_an_episode_has_its_initial_state_and_one_per_step() -> None:
    environment = Countdown(3)
    steps = _play(environment)
    assert environment.seeds == [17]
    assert environment.actions == [0, 1, 0]
    assert [step.step for step in steps] == [0, 1, 2, 3]
    assert [step.action for step in steps] == [0, 1, 0, None]
    assert [step.episode_return for step in steps] == [0.0, 0.5, 1.0, 1.5]
    assert [int(step.frame.max()) for step in steps] == [0, 1, 2, 3]
    assert {step.episode for step in steps} == {2}
    # The last state has Q-values too, although no action is chosen by them.
    np.testing.assert_array_equal([step.q_values for step in steps], np.eye(2)[[0, 1, 0, 1]])


@pytest.mark.parametrize(
    ("environment", "max_steps", "length", "ending"),
    [
        (Countdown(3), 100, 3, "terminated"),
        (Countdown(3), 3, 3, "terminated"),
        (Countdown(3, truncates=True), 100, 3, "truncated: time limit"),
        (Countdown(2_000), 1_200, 1_200, "cut off at 1,200 steps"),
    ],
)
def test_only_the_last_state_has_an_ending(
    environment: Countdown, max_steps: int, length: int, ending: str
) -> None:
    steps = _play(environment, max_steps)
    assert steps[-1].ending == ending
    assert not any(step.ending for step in steps[:-1])
    assert steps[-1].step == length


def test_states_are_played_only_as_they_are_taken() -> None:
    environment = Countdown(1_000_000)
    episode = play(rendered(environment), Alternating(), 1, 0, 10**9)
    next(episode)
    next(episode)
    assert len(environment.actions) == 1


def test_a_greedy_player_takes_the_first_of_the_highest_q_values() -> None:
    def q_values(observations: Tensor) -> Tensor:
        return tf.concat([observations[:, :1], observations], axis=1)  # two equal ones in front

    policy: Any = SimpleNamespace(spec=vector_spec(2), q_values=q_values)
    player = GreedyPlayer(policy)
    action, values = player.act(np.array([1.0, 0.5], np.float32))
    assert action == 0
    np.testing.assert_array_equal(values, [1.0, 1.0, 0.5])  # type: ignore[arg-type]
    assert player.act(np.array([1.0, 1.5], np.float32))[0] == 2


def test_a_random_player_is_uniform_and_determined_by_its_seed() -> None:
    def actions(seed: int) -> list[int]:
        player = RandomPlayer(3, seed)
        chosen = [player.act(np.zeros(1)) for _ in range(3_000)]
        assert {q_values for _, q_values in chosen} == {None}
        return [action for action, _ in chosen]

    assert actions(0) == actions(0) != actions(1)
    counts = np.bincount(actions(0), minlength=3)
    assert len(counts) == 3
    assert counts.min() > 900  # a standard deviation is 26
