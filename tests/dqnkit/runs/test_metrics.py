from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from dqnkit.config.sections import Config
from dqnkit.errors import TrainingDivergedError
from dqnkit.evaluation.episodes import Episodes, Evaluation
from dqnkit.loops.base import IntervalMetrics
from dqnkit.runs.metrics import (
    episode_metrics,
    evaluation_metrics,
    final_metrics,
    interval_metrics,
)
from tests.dqnkit.runs.results import RESULT

Small = Callable[..., Config]

INTERVAL = IntervalMetrics(
    iteration=1_200,
    env_steps=1_300,
    loss=0.5,
    exploration=0.1,
    episodes=3,
    return_mean=20.0,
    length_mean=10.0,
)


@pytest.mark.parametrize(
    ("policy", "parameter"), [("epsilon_greedy", "epsilon"), ("boltzmann", "temperature")]
)
def test_an_interval_is_logged_below_train(small: Small, policy: str, parameter: str) -> None:
    config = small(f"exploration.policy={policy}")
    assert interval_metrics(config, INTERVAL, 1000.0) == {
        "train/loss": 0.5,
        f"train/{parameter}": 0.1,
        "train/return_mean": 20.0,
        "train/length_mean": 10.0,
        "train/episodes": 3.0,
        "train/steps_per_second": 1000.0,
    }


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_is_an_error(small: Small, loss: float) -> None:
    config = small("training.log_interval=1000")
    with pytest.raises(
        TrainingDivergedError,
        match=rf"the loss became {loss} between iterations 200 and 1,200 \(environment step 1,300\)"
        r"; lower optimizer.learning_rate or set agent.gradient_clipping, or use agent.loss=huber",
    ):
        interval_metrics(config, replace(INTERVAL, loss=loss), 1.0)
    first = replace(INTERVAL, loss=loss, iteration=600)  # an interval that the end cut short
    with pytest.raises(TrainingDivergedError, match="between iterations 0 and 600"):
        interval_metrics(config, first, 1.0)
    with pytest.raises(TrainingDivergedError) as caught:
        interval_metrics(small("agent.kind=c51"), first, 1.0)
    assert "huber" not in str(caught.value)


def test_without_updates_a_loss_of_nan_is_right(small: Small) -> None:
    config = small("training.gradient_steps_per_iteration=0")
    values = interval_metrics(config, replace(INTERVAL, loss=math.nan), 1.0)
    assert math.isnan(values["train/loss"])


def test_an_evaluation_is_logged_below_eval() -> None:
    returns = (1.0, 2.0, 3.0, 10.0)
    evaluation = Evaluation(iteration=1, env_steps=2, returns=returns, lengths=(1, 2, 3, 4))
    values = evaluation_metrics(evaluation)
    assert values == {
        "eval/return_mean": 4.0,
        "eval/return_std": pytest.approx(3.5355339),
        "eval/return_min": 1.0,
        "eval/return_max": 10.0,
        "eval/return_iqm": 2.5,
        "eval/length_mean": 2.5,
    }


def test_episodes_are_logged_with_their_interval() -> None:
    episodes = Episodes(returns=(1.0, 2.0, 3.0, 10.0), lengths=(1, 2, 3, 4))
    values = episode_metrics("final/random", episodes)
    assert len(values) == 12
    assert all(name.startswith("final/random/") for name in values)
    assert all(type(value) is float for value in values.values())
    low, high = (values[f"final/random/return_ci_{end}"] for end in ("low", "high"))
    assert 1.0 <= low <= values["final/random/return_iqm"] <= high <= 10.0
    assert (low, high) == episodes.interval
    assert values["final/random/return_median"] == 2.5
    lengths = [values[f"final/random/length_{name}"] for name in ("mean", "min", "max")]
    assert lengths == [2.5, 1.0, 4.0]
    assert values["final/random/episodes"] == 4.0


def test_a_finished_run_logs_its_final_and_late_scores_and_its_times() -> None:
    values = final_metrics(RESULT)
    assert values["final/return_iqm"] == RESULT.final.summary.iqm
    assert values["late/return_iqm"] == RESULT.late.summary.iqm
    assert values["late/episodes"] == 4.0
    assert {name: value for name, value in values.items() if name.startswith("time/")} == {
        "time/total_seconds": 9.0,
        "time/compile_seconds": 2.0,
        "time/training_seconds": 4.0,
        "time/steps_per_second": 25.0,
        "time/checkpoint_seconds": 0.5,
    }


@pytest.mark.parametrize(
    ("return_mean", "advice"),
    [
        (-1e20, r"rewards of about 1e\+18 a step are too large.*ClipReward"),
        (-500.0, r"lower optimizer\.learning_rate"),
        (math.nan, r"lower optimizer\.learning_rate"),
    ],
)
def test_the_advice_for_divergence_follows_the_rewards(return_mean: float, advice: str) -> None:
    interval = IntervalMetrics(10, 20, math.nan, 0.1, 1, return_mean, 100.0)
    with pytest.raises(TrainingDivergedError, match=advice):
        interval_metrics(Config(), interval, 1.0)
