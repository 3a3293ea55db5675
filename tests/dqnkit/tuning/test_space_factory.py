from __future__ import annotations

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.tuning.space import Space
from dqnkit.tuning.space_factory import default_distributions, make_space
from tests.dqnkit.replay.host_replays import EXPERIMENTS


def _config(*assignments: str) -> Config:
    return resolve(loading.default_config("space", assignments))[0]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_default_space_contains_each_experiments_own_values(name: str) -> None:
    config = loading.load(name)
    if config.network.fc_layer_params is None:  # the environment decides
        layers = config.network.model_copy(update={"fc_layer_params": (128,)})
        config = config.model_copy(update={"network": layers})
    space = Space(default_distributions(config))
    params, warnings = space.params(config)
    assert warnings == []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    study.enqueue_trial(params)
    assert space.configure(config, space.suggest(study.ask())) == config


def test_the_default_space_is_learning_rate_layers_and_batch_size() -> None:
    space = make_space(_config())
    assert list(space.distributions) == [
        "optimizer.learning_rate",
        "network.fc_layer_params",
        "training.batch_size",
    ]
    # A batch must fit into the replay.
    small = make_space(_config("replay.replay_buffer_max_length=100"))
    choices = small.as_dict()["training.batch_size"]["choices"]
    assert choices == [32, 64]


def test_the_section_search_replaces_the_default_space() -> None:
    space = make_space(_config("search.agent.gamma={type: float, low: 0.9, high: 1.0}"))
    assert list(space.distributions) == ["agent.gamma"]


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("search.agent.gama={type: float, low: 0, high: 1}", ["agent.gama", "agent.gamma"]),
        ("search.agent={type: float, low: 0, high: 1}", ["section", "agent.gamma"]),
        ("search.training.seed={type: int, low: 0, high: 9}", ["seed", "`seeds_per_trial`"]),
        ("search.env.id={type: categorical, choices: [CartPole-v1]}", ["env.id", "scale"]),
        ("search.evaluation.eval_interval={type: int, low: 1, high: 9}", ["evaluation", "scale"]),
        ("search.name={type: categorical, choices: [a]}", ["name"]),
    ],
)
def test_keys_that_cannot_be_searched_are_refused(assignment: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_space(_config(assignment))
    for part in ["search.", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("search.agent.gamma={type: float, low: 0.9, high: 1.1}", ["agent.gamma=1.1", "less"]),
        ("search.training.batch_size={type: float, low: 32, high: 64.5}", ["batch_size", "64.5"]),
        ("search.training.batch_size={type: float, low: 32, high: 64}", ["batch_size", "44.2"]),
        ("search.training.batch_size={type: int, low: 8, high: 1000000}", ["1000000", "replay"]),
        ("search.agent.loss={type: categorical, choices: [squared, hubris]}", ["hubris"]),
        ("search.training.loop={type: categorical, choices: [graph, host, gaph]}", ["gaph"]),
        ("search.network.conv_layer_params={type: categorical, choices: [[[4, 3, 1]]]}", ["image"]),
    ],
)
def test_values_that_the_configuration_rejects_are_refused(
    assignment: str, parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_space(_config(assignment))
    for part in ["search.", *parts]:
        assert part in str(caught.value)


def test_values_that_exclude_each_other_are_found_in_pairs() -> None:
    with pytest.raises(ConfigError, match="a batch must fit into the replay"):
        make_space(
            _config(
                "replay.replay_buffer_max_length=1000",
                "search.training.batch_size={type: int, low: 16, high: 512}",
                "search.replay.replay_buffer_max_length={type: int, low: 256, high: 2048}",
            )
        )


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ["search.agent.num_atoms={type: int, low: 5, high: 9}"],
            "search.agent.num_atoms=5: agent: num_atoms=5: only applies with kind=c51",
        ),
        (
            ["search.exploration.decay_steps={type: int, low: 5, high: 9}"],
            "decay_steps=5: only applies with schedule=linear or exponential, and schedule is con",
        ),
        (
            [
                "env.id=LunarLander-v3",
                "search.agent.kind={type: categorical, choices: [dqn, c51]}",
            ],
            "search.agent.kind=c51: agent.kind=c51 learns a distribution",
        ),
        (
            ["agent.kind=c51", "search.agent.v_min={type: float, low: 0, high: 200}"],
            "search.agent.v_min=200.0: agent: v_min=200 is not below v_max=100",
        ),
        (
            [
                "search.agent.kind={type: categorical, choices: [dqn, c51]}",
                "search.agent.gamma={type: categorical, choices: [0.9, 1.0]}",
            ],
            "search.agent.kind=c51, search.agent.gamma=1.0: agent.kind=c51 learns",
        ),
    ],
)
def test_choices_that_cannot_be_trained_and_keys_without_effect_are_refused(
    assignments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_space(_config(*assignments))
    assert message in str(caught.value)
