from __future__ import annotations

import importlib.util
import math

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ArgumentError
from dqnkit.tuning.samplers import PrunerName, SamplerName, grid_points, make_pruner, make_sampler
from dqnkit.tuning.space import Params, Space
from dqnkit.tuning.space_factory import make_space

WITHOUT_TORCH = importlib.util.find_spec("torch") is None


def _space(*assignments: str) -> Space:
    return make_space(resolve(loading.default_config("sampled", assignments))[0])


def _draws(name: SamplerName, count: int, *, seed: int = 0, salt: int = 0) -> list[Params]:
    """Return parameters of trials whose value is highest at a rate of 1e-3 and few layers."""
    space = _space()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, seed, salt))
    for _ in range(count):
        trial = study.ask()
        values = space.suggest(trial)
        distance = abs(math.log10(values["optimizer.learning_rate"]) + 3)
        study.tell(trial, -distance - len(values["network.fc_layer_params"]) / 10)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", ["tpe", "cmaes", "gp"])
def test_a_model_comes_closer_to_the_optimum_than_chance(name: SamplerName) -> None:
    if name == "gp" and WITHOUT_TORCH:
        pytest.skip("PyTorch is not installed")

    def median_distance(params: list[Params]) -> float:
        distances = [abs(math.log10(each["optimizer.learning_rate"]) + 3) for each in params]
        return sorted(distances)[len(distances) // 2]

    modelled, random = _draws(name, 60)[-20:], _draws("random", 60)[-20:]
    assert median_distance(modelled) < 0.5 * median_distance(random)


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes"])
def test_seed_and_salt_decide_the_draws(name: SamplerName) -> None:
    first = _draws(name, 5)
    assert _draws(name, 5) == first
    assert _draws(name, 5, seed=1) != first
    rates = [each["optimizer.learning_rate"] for each in first + _draws(name, 5, salt=5)]
    assert len(set(rates)) == 10


@pytest.mark.skipif(not WITHOUT_TORCH, reason="PyTorch is installed")
def test_a_missing_package_is_named_with_the_extra_that_has_it() -> None:
    with pytest.raises(ArgumentError, match=r"sampler=gp: .*install dqnkit\[gp\]"):
        make_sampler("gp", 0, 0)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ArgumentError, match="sampler=tpp: expected tpe, random"):
        make_sampler("tpp", 0, 0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="pruner=halving: expected hyperband, median"):
        make_pruner("halving", 10, 1)  # type: ignore[arg-type]


# -- Grids


def test_a_grid_has_every_combination() -> None:
    points = grid_points(
        _space(
            "search.optimizer.learning_rate={type: categorical, choices: [1e-4, 1e-3]}",
            "search.agent.gamma={type: float, low: 0.9, high: 1.0, step: 0.05}",
            "search.training.batch_size={type: int, low: 32, high: 64, step: 16}",
            "search.network.fc_layer_params={type: categorical, choices: [[8], [8, 8]]}",
        )
    )
    assert len(points) == 2 * 3 * 3 * 2
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert {point["agent.gamma"] for point in points} == {0.9, 0.95, 1.0}
    assert {point["training.batch_size"] for point in points} == {32, 48, 64}
    assert {point["network.fc_layer_params"] for point in points} == {"[8]", "[8, 8]"}


def test_integers_without_a_step_are_all_points() -> None:
    points = grid_points(_space("search.training.batch_size={type: int, low: 30, high: 33}"))
    assert [point["training.batch_size"] for point in points] == [30, 31, 32, 33]


@pytest.mark.parametrize(
    ("assignments", "parts"),
    [
        ([], ["optimizer.learning_rate", "step, or choices"]),
        (
            ["search.network.fc_layer_params={type: layers}"],
            ["network.fc_layer_params", "categorical"],
        ),
        (["search.training.num_iterations={type: int, low: 1, high: 99999}"], ["points"]),
    ],
)
def test_spaces_without_a_grid_are_refused(assignments: list[str], parts: list[str]) -> None:
    with pytest.raises(ArgumentError) as caught:
        grid_points(_space(*assignments))
    for part in ["sampler=grid", *parts]:
        assert part in str(caught.value)


# -- Pruners


def test_wilcoxon_needs_enough_seeds() -> None:
    with pytest.raises(ArgumentError, match="`seeds_per_trial` 4 is too few"):
        make_pruner("wilcoxon", 20, 4)
    pruner = make_pruner("wilcoxon", 20, 5)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for level in (10.0, 1.0):
        trial = study.ask()
        is_pruned = False
        for seed in range(4):
            trial.report(level + seed / 10, seed)
            is_pruned = is_pruned or trial.should_prune()
        study.tell(trial, level)
    assert is_pruned  # by its fourth seed, which saves the fifth


@pytest.mark.parametrize("name", ["hyperband", "median"])
def test_bad_trials_are_pruned_and_good_ones_are_not(name: PrunerName) -> None:
    study = optuna.create_study(
        direction="maximize", pruner=make_pruner(name, 20, 1), study_name="pruned"
    )
    states = []
    for number in range(40):
        trial = study.ask()
        level, is_pruned = float(number % 4), False
        for step in range(1, 21):
            trial.report(level * step, step)
            if trial.should_prune():
                is_pruned = True
                break
        state = optuna.trial.TrialState.PRUNED if is_pruned else None
        study.tell(trial, None if is_pruned else level, state)
        states.append((level, is_pruned))
    worst = [is_pruned for level, is_pruned in states[12:] if level == 0]
    best = [is_pruned for level, is_pruned in states[12:] if level == 3]
    assert sum(worst) / len(worst) > 0.7
    assert sum(best) / len(best) < 0.3


def test_the_pruner_none_never_prunes() -> None:
    study = optuna.create_study(direction="maximize", pruner=make_pruner("none", 20, 1))
    for level in (10.0, -10.0):
        trial = study.ask()
        for step in range(20):
            trial.report(level, step)
            assert not trial.should_prune()
        study.tell(trial, level)
