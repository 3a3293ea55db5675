from __future__ import annotations

from pathlib import Path

import pytest

from cli.loading import experiment_config, option_overrides
from dqnkit.config import loading
from dqnkit.errors import ConfigError
from tests.cli.conftest import Run


def _message(
    *assignments: str,
    experiment: str | None = "given.yaml",
    env: str | None = None,
    seed: int | None = None,
) -> str:
    with pytest.raises(ConfigError) as caught:
        experiment_config(experiment, env, seed, assignments)
    return str(caught.value)


def _write(text: str) -> None:
    Path("given.yaml").write_text(text, encoding="utf-8")


def test_without_arguments_the_default_experiment_is_loaded() -> None:
    assert experiment_config(None, None, None, None) == loading.load("cartpole")


def test_options_win_over_assignments_and_assignments_over_the_file() -> None:
    assignments = ["env.id=Other-v0", "training.seed=1", "agent.gamma=0.5"]
    config = experiment_config("tutorial", "Acrobot-v1", 2, assignments)
    assert (config.env.id, config.training.seed, config.agent.gamma) == ("Acrobot-v1", 2, 0.5)
    assert config.name == "tutorial"


def test_an_environment_alone_selects_its_experiment() -> None:
    assert experiment_config(None, "Acrobot-v1", None, None) == loading.load("acrobot")
    config = experiment_config(None, "ns/Thing-v0", 3, ["agent.gamma=0.5"])
    assert (config.name, config.env.id) == ("ns-thing-v0", "ns/Thing-v0")
    assert (config.training.seed, config.agent.gamma) == (3, 0.5)


def test_an_environment_is_not_parsed_as_yaml() -> None:
    assert experiment_config("tutorial", "[x", None, None).env.id == "[x"


def test_overrides_are_called_by_their_options() -> None:
    overrides = option_overrides("CartPole-v1", 3, ["agent.gamma=1e-1"])
    assert overrides == [
        ("agent.gamma", 0.1, "--set agent.gamma=1e-1"),
        ("env.id", "CartPole-v1", "--env CartPole-v1"),
        ("training.seed", 3, "--seed 3"),
    ]
    assert option_overrides(None, None, None) == []


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("agent.gama=0.9", "--set agent.gama=0.9: there is no key 'agent.gama' (did you mean"),
        ("agent.gamma=2", "--set agent.gamma=2: agent.gamma: 2 was given"),
        ("agent.gamma", "--set agent.gamma: write section.key=value, for example"),
        ("agent.gamma=[", "--set agent.gamma=[: the value is not valid YAML: "),
        ("env.id.x=1", "--set env.id.x=1: 'env.id' in "),
    ],
)
def test_a_mistake_in_an_assignment_begins_with_the_option(assignment: str, message: str) -> None:
    assert _message(assignment, experiment="tutorial").startswith(message)


def test_mistakes_in_other_options_begin_with_the_option() -> None:
    assert _message(experiment="tutorial", seed=-4).startswith("--seed -4: training.seed: -4 was")
    assert _message(experiment=None, env="").startswith("--env : env.id: '' was given")


def test_a_combination_names_the_file_and_the_options_of_its_keys() -> None:
    message = _message(
        "replay.replay_buffer_max_length=10",
        "agent.gamma=0.5",
        "training.batch_size=64",
        experiment="tutorial",
        seed=3,
    )
    assert (
        "tutorial.yaml, --set replay.replay_buffer_max_length=10, --set training.batch_size=64: "
        "replay.replay_buffer_max_length=10 is smaller than"
    ) in message


def test_an_environment_on_top_of_a_value_in_the_file() -> None:
    _write("env: CartPole-v1")
    assert _message(env="Acrobot-v1").startswith(
        "--env Acrobot-v1: 'env' in given.yaml is given as the value 'CartPole-v1', while it is a "
        "section with keys (id, kwargs, "
    )


def test_a_seed_on_top_of_a_value_in_the_file() -> None:
    _write("training: 5")
    assert _message(seed=3).startswith(
        "--seed 3: 'training' in given.yaml is given as the value 5, while it is a section with "
        "keys (loop, num_iterations, "
    )


def test_an_assignment_on_top_of_a_value_in_the_file() -> None:
    _write("env: CartPole-v1")
    message = _message("env.num_envs=2", env="Acrobot-v1")
    assert message.startswith("--set env.num_envs=2: 'env' in given.yaml is given as the value")


def test_options_on_top_of_a_value_in_an_assignment() -> None:
    _write("env: {id: CartPole-v1}")
    message = _message("env=CartPole-v1", "env.num_envs=2")
    assert message.startswith("--set env.num_envs=2: 'env' in --set env=CartPole-v1 is given as")
    message = _message("env=CartPole-v1", env="Acrobot-v1")
    assert message.startswith("--env Acrobot-v1: 'env' in --set env=CartPole-v1 is given as")
    message = _message("training=5", seed=3)
    assert message.startswith("--seed 3: 'training' in --set training=5 is given as the value 5")


def test_an_assignment_can_replace_the_value_of_the_file() -> None:
    _write("env: CartPole-v1")
    config = experiment_config("given.yaml", "Acrobot-v1", None, ["env={num_envs: 2}"])
    assert (config.env.id, config.env.num_envs) == ("Acrobot-v1", 2)


def test_the_message_is_printed_with_exit_code_2(run: Run) -> None:
    _write("env: CartPole-v1")
    code, out, err = run("train", "given.yaml", "--env", "Acrobot-v1")
    assert (code, out) == (2, "")
    assert "--env Acrobot-v1: 'env' in given.yaml" in err
    assert "--set" not in err
