from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dqnkit.config.sections import EvaluationConfig
from dqnkit.evaluation.base import Watch
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.runs.checkpoints import Checkpoint, Clocks
from dqnkit.runs.components import Components
from dqnkit.runs.history import EvaluationHistory

CONFIG = EvaluationConfig(num_eval_episodes=2, final_episodes=5)


class Parts:
    """Loop, policy and evaluator whose returns are the first weight, plus given amounts."""

    def __init__(self, spread: Sequence[float] = (0.0, 0.0)) -> None:
        self.spread = spread
        self.iteration = 0
        self.counters: list[int] = []
        self.weights = np.zeros(1, np.float32)
        self.played = np.zeros(1, np.float32)

    @property
    def env_steps(self) -> int:
        return 100 + self.iteration

    def policy_weights(self) -> np.ndarray:
        return self.weights.copy()

    def set_weights(self, weights: np.ndarray) -> None:
        self.played = weights

    def play(self, counter: int, watch: Watch) -> tuple[np.ndarray, np.ndarray]:
        self.counters.append(counter)
        returns = np.float32([self.played[0] + each for each in self.spread])
        watch(len(returns), 7)
        return returns, np.int32([7] * len(returns))

    def train(self, iteration: int, weight: float) -> None:
        self.iteration, self.weights = iteration, np.float32([weight])


def _history(parts: Any, checkpoint: Checkpoint | None = None) -> EvaluationHistory:
    return EvaluationHistory(Components(parts, parts, parts), CONFIG, checkpoint)


def _evaluate(history: EvaluationHistory, parts: Parts, weights: Sequence[float]) -> None:
    for number, weight in enumerate(weights):
        parts.train(10 * number, weight)
        history.evaluate()


def test_an_evaluation_plays_the_current_weights() -> None:
    parts = Parts(spread=(1.0, 2.0))
    history = _history(parts)
    parts.train(30, 5.0)
    evaluation = history.evaluate()
    assert evaluation == Evaluation(iteration=30, env_steps=130, returns=(6.0, 7.0), lengths=(7, 7))
    assert history.evaluations == (evaluation,)
    assert parts.counters == [30]


@pytest.mark.parametrize(
    ("weights", "best"),
    [
        ([3.0], 0),
        ([1.0, 3.0, 2.0], 1),
        ([3.0, 1.0, 3.0, 2.0], 2),  # of equals the latest
        ([-2.0, -5.0], 0),
    ],
)
def test_the_best_is_the_latest_of_the_highest_means(weights: list[float], best: int) -> None:
    parts = Parts()
    history = _history(parts)
    assert history.best_index == -1
    _evaluate(history, parts, weights)
    assert history.best_index == best
    assert history.best.iteration == 10 * best
    np.testing.assert_array_equal(history.best_weights, [weights[best]])


def test_the_best_policy_plays_fresh_episodes_in_batches() -> None:
    parts = Parts(spread=(0.0, 0.25))
    history = _history(parts)
    _evaluate(history, parts, [1.0, 3.0, 2.0])
    parts.counters.clear()
    watched: list[tuple[int, int]] = []
    final = history.evaluate_best(lambda *progress: watched.append(progress))
    assert watched == [(2, 7), (4, 7), (6, 7)]
    assert final.returns == (3.0, 3.25, 3.0, 3.25, 3.0)  # 5 of 3 batches of 2
    assert len(final.lengths) == 5
    assert parts.counters == [-1, -2, -3]
    assert (final.iteration, final.env_steps) == (10, 110)
    assert len(history.evaluations) == 3


def test_a_pruned_run_plays_one_batch_of_fresh_episodes() -> None:
    parts = Parts()
    history = _history(parts)
    _evaluate(history, parts, [1.0])
    parts.counters.clear()
    assert len(history.evaluate_best(in_full=False).returns) == 2
    assert parts.counters == [-1]


@pytest.mark.parametrize(
    ("weights", "late"),
    [
        ([1.0], (1.0, 1.0)),
        ([1.0, 2.0, 3.0], (2.0, 2.0, 3.0, 3.0)),
    ],
)
def test_late_episodes_leave_out_the_evaluation_before_training(
    weights: list[float], late: tuple[float, ...]
) -> None:
    parts = Parts()
    history = _history(parts)
    _evaluate(history, parts, weights)
    assert history.late.returns == late


def test_a_history_continues_that_of_a_checkpoint() -> None:
    parts = Parts()
    before = _history(parts)
    _evaluate(before, parts, [1.0, 3.0, 2.0])
    checkpoint = Checkpoint(
        "", 20, {}, before.evaluations, before.best_index, before.best_weights, Clocks()
    )
    resumed = _history(parts, checkpoint)
    assert resumed.evaluations == before.evaluations
    assert resumed.best == before.best
    parts.train(30, 2.5)
    resumed.evaluate()
    assert len(resumed.evaluations) == 4
    assert len(before.evaluations) == 3
    np.testing.assert_array_equal(resumed.best_weights, [3.0])
    first = replace(checkpoint, evaluations=(), best=-1)
    assert _history(parts, first).best_index == -1
