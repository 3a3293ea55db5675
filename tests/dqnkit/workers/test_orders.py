from __future__ import annotations

import pickle

import pytest

from dqnkit.config import loading
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.tracking.tracker import ParentRun
from dqnkit.workers.orders import PrunerDecision, StopRun, Task

CONFIG = loading.default_config("ordered", ["training.num_iterations=40"])


def _evaluation(iteration: int) -> Evaluation:
    return Evaluation(returns=(1.0,), lengths=(1,), iteration=iteration, env_steps=iteration)


@pytest.mark.parametrize(
    ("iteration", "expected"), [(0, False), (1, True), (39, True), (40, False)]
)
def test_a_verdict_is_awaited_between_the_first_and_the_last_evaluation(
    iteration: int, expected: bool
) -> None:
    task = Task(CONFIG, "a-run", waits_for_pruner=True)
    assert task.awaits_decision(_evaluation(iteration)) is expected
    assert not Task(CONFIG, "a-run").awaits_decision(_evaluation(iteration))


@pytest.mark.parametrize(
    "order",
    [
        Task(CONFIG, "a-run", ParentRun("id", {"a": "b"}), None, waits_for_pruner=True),
        PrunerDecision(proceed=False),
        StopRun(),
    ],
)
def test_orders_pass_between_processes(order: object) -> None:
    assert pickle.loads(pickle.dumps(order)) == order
