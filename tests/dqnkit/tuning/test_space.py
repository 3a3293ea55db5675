from __future__ import annotations

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.config.distributions import Choices, FloatRange, IntRange, LayerSizes
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.tuning.space import Space, describe, to_param
from dqnkit.tuning.space_factory import make_space

ALL_KINDS = [
    "search.optimizer.learning_rate={type: float, low: 1e-5, high: 1e-2, log: true}",
    "search.agent.gamma={type: float, low: 0.9, high: 1.0, step: 0.05}",
    "search.network.fc_layer_params={type: layers, min_layers: 0, max_layers: 3, low: 8, high: 64}",
    "search.training.batch_size={type: int, low: 16, high: 64, step: 16}",
    "search.agent.target_update_period={type: int, low: 1, high: 1000, log: true}",
    "search.agent.loss={type: categorical, choices: [squared, huber]}",
    "search.agent.gradient_clipping={type: categorical, choices: [null, 1.0, 10.0]}",
]
"""One key for each kind of distribution."""


def _config(*assignments: str) -> Config:
    return resolve(loading.default_config("space", assignments))[0]


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))


def test_trials_change_the_keys_of_the_space_only() -> None:
    config = _config(*ALL_KINDS)
    space = make_space(config)
    study = _study()
    flats = []
    for _ in range(30):
        values = space.suggest(study.ask())
        before, after = config.flat(), space.configure(config, values).flat()
        changed = {key for key in before if before[key] != after[key]}
        assert changed <= set(space.distributions)
        assert {key: after[key] for key in values} == values
        flats.append(after)
    assert {len(each["network.fc_layer_params"]) for each in flats} == {0, 1, 2, 3}
    assert {each["agent.gradient_clipping"] for each in flats} == {None, 1.0, 10.0}
    assert {each["training.batch_size"] for each in flats} == {16, 32, 48, 64}


def test_params_are_the_inverse_of_suggest() -> None:
    config = _config(*ALL_KINDS)
    space = make_space(config)
    study = _study()
    for _ in range(30):
        trial = study.ask()
        changed = space.configure(config, space.suggest(trial))
        params, warnings = space.params(changed)
        assert params == pytest.approx(trial.params)
        assert warnings == []


def test_values_are_numbers_for_charts() -> None:
    space = make_space(_config(*ALL_KINDS))
    values = {
        "optimizer.learning_rate": 1e-3,
        "agent.gamma": 0.95,
        "network.fc_layer_params": [8, 16],
        "agent.target_update_period": 100,
        "agent.loss": "huber",
        "agent.gradient_clipping": None,
    }
    assert space.axes(values) == pytest.approx(
        {
            "search/log10_learning_rate": -3.0,
            "search/gamma": 0.95,
            "search/fc_layer_params.layers": 2,
            "search/fc_layer_params.units": 24,
            "search/log10_target_update_period": 2.0,
        }
    )


def test_keys_that_end_alike_give_metrics_of_their_whole_names() -> None:
    both = {key: Choices(type="categorical", choices=[True, False]) for key in ("a.x", "b.x")}
    assert Space(both).axes({"a.x": True, "b.x": False}) == {"search/a.x": 1.0, "search/b.x": 0.0}


def test_own_values_outside_the_space_give_a_warning() -> None:
    config = _config(
        "search.optimizer.learning_rate={type: float, low: 1e-5, high: 1e-4}",
        "search.training.batch_size={type: categorical, choices: [32, 64]}",
    )
    params, (warning,) = make_space(config).params(config)
    assert params == {"training.batch_size": 64}
    assert warning.startswith("search.optimizer.learning_rate: the experiment's own value 0.001")
    assert "1e-05 to 0.0001" in warning


@pytest.mark.parametrize(
    ("distribution", "inside", "outside"),
    [
        (FloatRange(type="float", low=0, high=1), [0.0, 0.3, 1], [-0.1, 1.1, True, "0", None]),
        (FloatRange(type="float", low=0, high=1, step=0.25), [0.0, 0.75], [0.3]),
        (IntRange(type="int", low=1, high=9, step=4), [1, 5, 9], [2, 10, True]),
        (Choices(type="categorical", choices=(True, 1, [8])), [True, 1, [8]], [False, 2, [8, 8]]),
        (
            LayerSizes(type="layers", min_layers=1, max_layers=2, low=8, high=16),
            [[8], [8, 16]],
            [[], [8, 8, 8], [7], 8, None],
        ),
    ],
)
def test_values_inside_and_outside_a_distribution(
    distribution: FloatRange | IntRange | Choices | LayerSizes,
    inside: list[object],
    outside: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    space = Space({"agent.key": distribution})
    config = _config()
    monkeypatch.setattr(loading, "applies", lambda *_: True)
    for value in inside:
        monkeypatch.setattr(loading, "value_at", lambda *_, value=value: value)
        params, warnings = space.params(config)
        assert warnings == []
        chosen = space.suggest(optuna.trial.FixedTrial(params))["agent.key"]
        assert chosen == value
        assert isinstance(chosen, bool) == isinstance(value, bool)
    for value in outside:
        monkeypatch.setattr(loading, "value_at", lambda *_, value=value: value)
        params, warnings = space.params(config)
        assert params == {}
        assert len(warnings) == 1


def test_lists_are_choices_like_any_other() -> None:
    config = _config(
        "search.network.fc_layer_params={type: categorical, choices: [[64], [32, 32], []]}"
    )
    space = make_space(config)
    study = _study()
    seen = {tuple(space.suggest(study.ask())["network.fc_layer_params"]) for _ in range(20)}
    assert seen == {(64,), (32, 32), ()}
    assert to_param([64]) == "[64]"
    assert to_param("adam") == "adam"


def test_values_that_do_not_fit_together_are_refused() -> None:
    config = _config()
    values = {"replay.replay_buffer_max_length": 10, "training.batch_size": 64}
    with pytest.raises(ConfigError, match=r"search\.training\.batch_size=64"):
        Space({}).configure(config, values)


def test_arguments_of_the_environment_may_be_searched() -> None:
    config = _config(
        "env.id=FrozenLake-v1",
        "env.kwargs={is_slippery: true}",
        "search.env.kwargs.is_slippery={type: categorical, choices: [true, false]}",
    )
    changed = make_space(config).configure(config, {"env.kwargs.is_slippery": False})
    assert changed.env.kwargs == {"is_slippery": False}


def test_kinds_of_agent_and_replay_may_be_searched_with_the_keys_of_each() -> None:
    config = _config(
        "agent.kind=c51",
        "replay.kind=prioritized",
        "search.agent.kind={type: categorical, choices: [dqn, double_dqn, c51, double_c51]}",
        "search.agent.num_atoms={type: int, low: 11, high: 101}",
        "search.replay.kind={type: categorical, choices: [uniform, prioritized]}",
        "search.replay.alpha={type: float, low: 0.0, high: 1.0}",
        "search.exploration.policy={type: categorical, choices: [epsilon_greedy, boltzmann]}",
        "search.optimizer.kind={type: categorical, choices: [adam, adamw, rmsprop]}",
    )
    space = make_space(config)
    study = _study()
    seen = set()
    for _ in range(60):
        changed = space.configure(config, space.suggest(study.ask()))
        agent, replay = changed.agent, changed.replay
        assert (agent.num_atoms is None) == (not agent.is_categorical)
        assert (replay.alpha is None) == (replay.kind == "uniform")
        resolve(changed)
        seen.add((agent.kind, replay.kind, changed.exploration.policy, changed.optimizer.kind))
    assert len(seen) > 20


def test_trial_0_is_the_experiment_even_if_keys_do_not_apply_to_it() -> None:
    config = loading.default_config(
        "space",
        [
            "agent.kind=c51",
            "search.agent.v_max={type: float, low: 50, high: 150}",
            "search.optimizer.kind={type: categorical, choices: [adam, adamw]}",
            "search.optimizer.weight_decay={type: float, low: 0.001, high: 0.1}",
        ],
    )
    space = make_space(config)
    params, warnings = space.params(config)
    assert warnings == []
    assert params["agent.v_max"] == pytest.approx(100.0)
    assert set(params) == set(space.distributions)  # so that nothing is sampled
    chosen = space.configure(config, space.suggest(optuna.trial.FixedTrial(params)))
    assert resolve(chosen)[0].flat() == resolve(config)[0].flat()


def test_values_to_test_are_ends_choices_and_an_interior_point() -> None:
    space = Space(
        {
            "a": FloatRange(type="float", low=0, high=1),
            "b": FloatRange(type="float", low=0, high=1, step=0.5),
            "c": LayerSizes(type="layers", min_layers=0, max_layers=2, low=8, high=16),
            "d": Choices(type="categorical", choices=("x", "y")),
        }
    )
    assert space.values_to_check("a") == [0, 1, pytest.approx(0.381966)]
    assert space.values_to_check("b") == [0, 1]
    assert space.values_to_check("c") == [[], [16, 16]]
    assert space.values_to_check("d") == ["x", "y"]
    assert space.values_to_check("e") == []


@pytest.mark.parametrize(
    ("distribution", "text"),
    [
        (FloatRange(type="float", low=1e-5, high=0.01, log=True), "1e-05 to 0.01, logarithmic"),
        (FloatRange(type="float", low=0.9, high=1, step=0.05), "0.9 to 1 by 0.05"),
        (IntRange(type="int", low=8, high=64), "8 to 64"),
        (Choices(type="categorical", choices=(None, "a", [8])), 'one of null, "a", [8]'),
        (
            LayerSizes(type="layers", low=16, high=32),
            "1 to 3 layers of 16 to 32, logarithmic units",
        ),
    ],
)
def test_a_distribution_in_words(distribution: FloatRange, text: str) -> None:
    assert describe(distribution) == text
