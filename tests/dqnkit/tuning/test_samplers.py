from __future__ import annotations

import importlib.util
import math

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.tuning import space
from dqnkit.tuning.samplers import SamplerName, grid_points, make_pruner, make_sampler
from dqnkit.tuning.space import Params, Space

WITHOUT_TORCH = importlib.util.find_spec("torch") is None


def _space(*assignments: str) -> Space:
    return space.of(resolve(loading.default_config("sampled", assignments))[0])


def _draws(name: SamplerName, count: int, *, seed: int = 0, salt: int = 0) -> list[Params]:
    """Params of trials whose value is highest at a learning rate of 1e-3 and few layers."""
    searched = _space()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, seed, salt))
    for _ in range(count):
        trial = study.ask()
        values = searched.suggest(trial)
        distance = abs(math.log10(values["optimizer.learning_rate"]) + 3)
        study.tell(trial, -distance - len(values["network.fc_layer_params"]) / 10)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", ["tpe", "cmaes", "gp"])
def test_a_model_comes_closer_than_chance(name: SamplerName) -> None:
    if name == "gp" and WITHOUT_TORCH:
        pytest.skip("PyTorch is not installed")

    def median_distance(params: list[Params]) -> float:
        distances = [abs(math.log10(each["optimizer.learning_rate"]) + 3) for each in params]
        return sorted(distances)[len(distances) // 2]

    modelled, random = _draws(name, 60)[-20:], _draws("random", 60)[-20:]
    assert median_distance(modelled) < 0.5 * median_distance(random)


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes"])
def test_the_seed_decides_the_draws_and_a_search_that_goes_on_draws_others(
    name: SamplerName,
) -> None:
    first = _draws(name, 5)
    assert _draws(name, 5) == first
    assert _draws(name, 5, seed=1) != first
    rates = [each["optimizer.learning_rate"] for each in first + _draws(name, 5, salt=5)]
    assert len(set(rates)) == 10


@pytest.mark.skipif(not WITHOUT_TORCH, reason="PyTorch is installed")
def test_a_missing_package_is_told_with_the_way_to_it() -> None:
    with pytest.raises(ConfigError, match=r"--extra gp"):
        make_sampler("gp", 0, 0)


def test_a_grid_is_every_combination() -> None:
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
    assert {point["network.fc_layer_params"] for point in points} == {"[8]", "[8, 8]"}


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
def test_what_has_no_grid_is_refused(assignments: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        grid_points(_space(*assignments))
    for part in ["--sampler grid", *parts]:
        assert part in str(caught.value)


def test_wilcoxon_wants_seeds_to_compare() -> None:
    with pytest.raises(ConfigError, match="--seeds-per-trial 4"):
        make_pruner("wilcoxon", 20, 4)
    pruner = make_pruner("wilcoxon", 20, 5)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for level in (10.0, 1.0):
        trial = study.ask()
        pruned = False
        for seed in range(4):
            trial.report(level + seed / 10, seed)
            pruned = pruned or trial.should_prune()
        study.tell(trial, level)
    assert pruned  # by its fourth seed, so that the fifth is saved


@pytest.mark.parametrize("name", ["hyperband", "median"])
def test_a_pruner_ends_what_is_far_behind(name: str) -> None:
    pruner = make_pruner(name, 20, 1)  # type: ignore[arg-type]
    study = optuna.create_study(direction="maximize", pruner=pruner, study_name="pruned")
    states = []
    for number in range(40):
        trial = study.ask()
        level, pruned = float(number % 4), False
        for step in range(1, 21):
            trial.report(level * step, step)
            if trial.should_prune():
                pruned = True
                break
        study.tell(
            trial, None if pruned else level, optuna.trial.TrialState.PRUNED if pruned else None
        )
        states.append((number % 4, pruned))
    worst = [pruned for level, pruned in states[12:] if level == 0]
    best = [pruned for level, pruned in states[12:] if level == 3]
    assert sum(worst) / len(worst) > 0.7
    assert sum(best) / len(best) < 0.3
