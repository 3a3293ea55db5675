"""Scores that the experiments reach, with as many seeds as each statement needs."""

from __future__ import annotations

import pytest

from dqnkit.config import loading
from dqnkit.runs.result import TrainResult
from dqnkit.runs.trainer import train

SEEDS = range(20, 30)
"""Seeds that neither the benchmark uses nor settings were chosen by."""


def _train(experiment: str, seed: int, *assignments: str) -> TrainResult:
    config = loading.load(experiment, [f"training.seed={seed}", *assignments])
    return train(config, tracking_uri=None)


def test_cartpole_is_solved() -> None:
    result = _train("cartpole", 0)
    assert result.best.summary.mean == 500.0
    assert result.final.summary.mean >= 475.0


@pytest.mark.slow
def test_all_of_the_family_together_solves_cartpole_in_its_budget() -> None:
    result = _train("rainbow-lite-cartpole", SEEDS[0])
    assert result.env_steps == 50_000
    assert result.final.summary.mean >= 475.0
    assert result.last.summary.mean >= 475.0


@pytest.mark.slow
def test_the_host_loop_learns_the_tutorial() -> None:
    assert _train("tutorial", 0, "training.loop=host").best.summary.mean >= 195.0


@pytest.mark.parametrize("loop", ["graph", pytest.param("host", marks=pytest.mark.slow)])
def test_frozen_lake_is_crossed_about_as_often_as_can_be(loop: str) -> None:
    short = ("training.num_iterations=8_000", "exploration.decay_steps=50_000")
    result = _train("frozen-lake", 0, f"training.loop={loop}", *short)
    assert result.final.summary.mean >= 0.65  # the optimal policy reaches 0.744


@pytest.mark.slow
def test_lunar_lander_lands() -> None:
    assert _train("lunar-lander", SEEDS[0]).final.summary.mean >= 154.0


@pytest.mark.slow
def test_cartpole_reaches_500_in_nine_of_ten_seeds() -> None:
    results = [_train("cartpole", seed) for seed in SEEDS]
    assert sum(result.best.summary.mean == 500.0 for result in results) >= 9


@pytest.mark.slow
@pytest.mark.parametrize(
    "switch",
    [
        (),
        ("agent.kind=double_dqn",),
        ("agent.kind=c51",),
        ("network.dueling=true",),
        ("agent.n_step=3",),
        ("replay.kind=prioritized",),
    ],
    ids=str,
)
def test_each_of_the_family_solves_cartpole_in_its_budget(switch: tuple[str, ...]) -> None:
    results = [_train("cartpole-50k", seed, *switch) for seed in SEEDS[:3]]
    assert all(result.env_steps == 50_000 for result in results)
    assert sum(result.final.summary.mean >= 475.0 for result in results) >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "zoo"), [("rainbow-lite-acrobot", -76.6), ("rainbow-lite-mountain-car", -100.8)]
)
def test_the_family_reaches_rl_zoos_scores_in_its_budgets(experiment: str, zoo: float) -> None:
    results = [_train(experiment, seed) for seed in SEEDS[:2]]
    assert max(result.final.summary.mean for result in results) >= zoo


@pytest.mark.slow
def test_the_tutorial_reaches_195_in_nine_of_ten_seeds() -> None:
    results = [_train("tutorial", seed) for seed in SEEDS]
    assert sum(result.best.summary.mean >= 195.0 for result in results) >= 9


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "goal"), [("acrobot", -100.0), ("mountain-car", -110.0)])
def test_the_other_experiments_reach_gymnasiums_thresholds(experiment: str, goal: float) -> None:
    results = [_train(experiment, seed) for seed in SEEDS[:3]]
    assert sum(result.best.summary.mean >= goal for result in results) >= 2
