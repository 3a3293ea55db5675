from __future__ import annotations

import optuna
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError
from dqnkit.tuning import space
from dqnkit.tuning.space import Space
from tests.dqnkit.replay.host_replays import EXPERIMENTS

EVERYTHING = [
    "search.optimizer.learning_rate={type: float, low: 1e-5, high: 1e-2, log: true}",
    "search.agent.gamma={type: float, low: 0.9, high: 1.0, step: 0.05}",
    "search.network.fc_layer_params={type: layers, min_layers: 0, max_layers: 3, low: 8, high: 64}",
    "search.training.batch_size={type: int, low: 16, high: 64, step: 16}",
    "search.agent.target_update_period={type: int, low: 1, high: 1000, log: true}",
    "search.agent.loss={type: categorical, choices: [squared, huber]}",
    "search.agent.gradient_clipping={type: categorical, choices: [null, 1.0, 10.0]}",
]


def _config(*assignments: str) -> Config:
    return resolve(loading.default_config("space", assignments))[0]


def _study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))


def test_a_trial_changes_what_the_space_names_and_nothing_else() -> None:
    config = _config(*EVERYTHING)
    searched = space.of(config)
    study = _study()
    seen = []
    for _ in range(30):
        values = searched.suggest(study.ask())
        changed = searched.configure(config, values)
        before, after = config.flat(), changed.flat()
        differing = {key for key in before if before[key] != after[key]}
        assert differing <= set(searched.distributions)
        assert {key: after[key] for key in values} == values
        seen.append(after)
    assert {len(each["network.fc_layer_params"]) for each in seen} == {0, 1, 2, 3}
    assert {each["agent.gradient_clipping"] for each in seen} == {None, 1.0, 10.0}
    assert {each["training.batch_size"] for each in seen} == {16, 32, 48, 64}


def test_a_configurations_own_values_are_what_a_trial_would_have_chosen() -> None:
    config = _config(*EVERYTHING)
    searched = space.of(config)
    study = _study()
    for _ in range(30):
        trial = study.ask()
        changed = searched.configure(config, searched.suggest(trial))
        params, problems = searched.params(changed)
        assert params == pytest.approx(trial.params)
        assert problems == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_default_space_holds_each_experiments_own_values(name: str) -> None:
    config = loading.load(name)
    if config.network.fc_layer_params is None:
        layers = config.network.model_copy(update={"fc_layer_params": (128,)})
        config = config.model_copy(update={"network": layers})
    searched = Space(space._default(config))
    params, problems = searched.params(config)
    assert problems == []
    study = _study()
    study.enqueue_trial(params)
    assert searched.configure(config, searched.suggest(study.ask())) == config


def test_the_default_space_is_rate_layers_and_batch() -> None:
    searched = space.of(_config())
    assert list(searched.distributions) == [
        "optimizer.learning_rate",
        "network.fc_layer_params",
        "training.batch_size",
    ]
    # A batch must fit into the replay.
    small = space.of(_config("replay.replay_buffer_max_length=100"))
    choices = small.as_dict()["training.batch_size"]["choices"]
    assert choices == [32, 64]


def test_own_values_outside_the_space_are_told() -> None:
    config = _config(
        "search.optimizer.learning_rate={type: float, low: 1e-5, high: 1e-4}",
        "search.training.batch_size={type: categorical, choices: [32, 64]}",
    )
    params, problems = space.of(config).params(config)
    assert params == {"training.batch_size": 64}
    (problem,) = problems
    assert "optimizer.learning_rate" in problem
    assert "0.001" in problem


def test_lists_are_choices_like_any_other() -> None:
    config = _config(
        "search.network.fc_layer_params={type: categorical, choices: [[64], [32, 32], []]}"
    )
    searched = space.of(config)
    study = _study()
    seen = {tuple(searched.suggest(study.ask())["network.fc_layer_params"]) for _ in range(20)}
    assert seen == {(64,), (32, 32), ()}


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("search.agent.gama={type: float, low: 0, high: 1}", ["agent.gama", "agent.gamma"]),
        ("search.agent={type: float, low: 0, high: 1}", ["section", "agent.gamma"]),
        ("search.training.seed={type: int, low: 0, high: 9}", ["seed", "--seeds-per-trial"]),
        ("search.env.id={type: categorical, choices: [CartPole-v1]}", ["env.id", "scale"]),
        ("search.evaluation.eval_interval={type: int, low: 1, high: 9}", ["evaluation", "scale"]),
        ("search.name={type: categorical, choices: [a]}", ["name"]),
        ("search.agent.gamma={type: float, low: 0.9, high: 1.1}", ["agent.gamma=1.1", "less"]),
        ("search.training.batch_size={type: float, low: 32, high: 64.5}", ["batch_size", "64.5"]),
        ("search.training.batch_size={type: int, low: 8, high: 1000000}", ["1000000", "replay"]),
        ("search.agent.loss={type: categorical, choices: [squared, hubris]}", ["hubris"]),
        ("search.training.loop={type: categorical, choices: [graph, host, gaph]}", ["gaph"]),
        ("search.network.conv_layer_params={type: categorical, choices: [[[4, 3, 1]]]}", ["image"]),
    ],
)
def test_what_no_trial_could_train_is_refused_before_the_first(
    assignment: str, parts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        space.of(_config(assignment))
    for part in ["search.", *parts]:
        assert part in str(caught.value)


def test_values_that_exclude_each_other_are_found_in_pairs() -> None:
    with pytest.raises(ConfigError, match="a batch must fit into the replay"):
        space.of(
            _config(
                "replay.replay_buffer_max_length=1000",
                "search.training.batch_size={type: int, low: 16, high: 512}",
                "search.replay.replay_buffer_max_length={type: int, low: 256, high: 2048}",
            )
        )


def test_arguments_of_the_environment_may_be_searched() -> None:
    config = _config(
        "env.id=FrozenLake-v1",
        "env.kwargs={is_slippery: true}",
        "search.env.kwargs.is_slippery={type: categorical, choices: [true, false]}",
    )
    searched = space.of(config)
    changed = searched.configure(config, {"env.kwargs.is_slippery": False})
    assert changed.env.kwargs == {"is_slippery": False}


def test_differences_name_key_and_both_values() -> None:
    before = {"agent.gamma": 0.99, "search.a": {"type": "int", "low": 1, "step": None}, "same": 1}
    now = {"agent.gamma": 0.9, "same": 1}
    first, second = space.differences(before, now)
    assert first == "agent.gamma: 0.99 in the study, 0.9 here"
    assert second == 'search.a: {"type": "int", "low": 1} in the study, nothing here'


def test_kinds_of_agent_and_of_replay_may_be_searched() -> None:
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
    searched = space.of(config)
    study = _study()
    seen = set()
    for _ in range(60):
        changed = searched.configure(config, searched.suggest(study.ask()))
        agent, replay = changed.agent, changed.replay
        assert (agent.num_atoms is None) == (not agent.is_categorical)
        assert (replay.alpha is None) == (replay.kind == "uniform")
        resolve(changed)
        seen.add((agent.kind, replay.kind, changed.exploration.policy, changed.optimizer.kind))
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ["search.agent.num_atoms={type: int, low: 5, high: 9}"],
            "search.agent.num_atoms=5: agent: num_atoms=5: only applies with kind=c51",
        ),
        (
            ["search.exploration.decay_steps={type: int, low: 5, high: 9}"],
            "decay_steps=5: only applies with schedule=linear or exponential, and schedule is const",
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
def test_kinds_that_cannot_be_trained_and_keys_that_nothing_reads_are_refused(
    assignments: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        space.of(_config(*assignments))
    assert message in str(caught.value)


def test_trial_0_is_the_experiment_whatever_it_reads_of_the_space() -> None:
    config = loading.default_config(
        "space",
        [
            "agent.kind=c51",
            "search.agent.v_max={type: float, low: 50, high: 150}",
            "search.optimizer.kind={type: categorical, choices: [adam, adamw]}",
            "search.optimizer.weight_decay={type: float, low: 0.001, high: 0.1}",
        ],
    )
    searched = space.of(config)
    params, problems = searched.params(config)
    assert problems == []
    assert params["agent.v_max"] == pytest.approx(100.0)
    assert set(params) == set(searched.distributions)  # so that nothing is left to chance
    chosen = searched.configure(config, searched.suggest(optuna.trial.FixedTrial(params)))
    assert resolve(chosen)[0].flat() == resolve(config)[0].flat()
