from __future__ import annotations

import json
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError
from tests.conftest import ROOT


def _message(*assignments: str, experiment: str = "tutorial") -> str:
    with pytest.raises(ConfigError) as caught:
        loading.load(experiment, assignments)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("name", loading.experiment_names())
def test_every_committed_experiment_loads_and_survives_a_round_trip(name: str) -> None:
    config = loading.load(name)
    assert config.name == name
    assert config.description
    Path("again.yaml").write_text(loading.dump(config), encoding="utf-8")
    assert loading.load("again.yaml") == config


def test_the_experiments_that_are_promised_are_there() -> None:
    assert {"tutorial", "cartpole", "acrobot", "mountain-car"} <= set(loading.experiment_names())


def test_the_tutorial_is_the_tutorial_to_the_letter() -> None:
    config = loading.load("tutorial")
    assert config.env.id == "CartPole-v0"
    assert config.network.fc_layer_params == (100, 50)
    assert config.optimizer.learning_rate == 1e-3
    assert (config.agent.gamma, config.agent.loss) == (1.0, "squared")
    assert (config.agent.target_update_period, config.agent.target_update_tau) == (1, 1.0)
    assert config.agent.gradient_clipping is None
    assert (config.exploration.schedule, config.exploration.epsilon) == ("constant", 0.1)
    assert config.replay.replay_buffer_max_length == 100_000
    training = config.training
    assert (training.num_iterations, training.initial_collect_steps) == (20_000, 100)
    assert (training.collect_steps_per_iteration, training.gradient_steps_per_iteration) == (1, 1)
    assert (training.batch_size, training.log_interval) == (64, 200)
    assert config.evaluation.num_eval_episodes == 10
    assert config.evaluation.eval_interval == 1_000


def test_the_tutorial_with_reverb_is_the_tutorial_with_another_replay() -> None:
    config, tutorial = loading.load("tutorial-reverb"), loading.load("tutorial")
    assert (config.replay.kind, config.replay.sampler) == ("reverb", "uniform")
    same = {"name": tutorial.name, "description": tutorial.description, "replay": tutorial.replay}
    assert config.model_copy(update=same) == tutorial
    capacity = tutorial.replay.replay_buffer_max_length
    assert config.replay.replay_buffer_max_length == capacity


def test_assignments_win_over_the_file_and_later_ones_over_earlier() -> None:
    config = loading.load("tutorial", ["training.seed=3", "training.seed=4", "agent.gamma=0.9"])
    assert (config.training.seed, config.agent.gamma) == (4, 0.9)


@pytest.mark.parametrize(
    ("assignment", "section", "key", "value"),
    [
        ("optimizer.learning_rate=1e-4", "optimizer", "learning_rate", 1e-4),
        ("optimizer.learning_rate=1E-4", "optimizer", "learning_rate", 1e-4),
        ("training.num_iterations=1e5", "training", "num_iterations", 100_000),
        ("training.num_iterations=100_000", "training", "num_iterations", 100_000),
        ("network.fc_layer_params=[64, 64]", "network", "fc_layer_params", (64, 64)),
        ("network.fc_layer_params=[]", "network", "fc_layer_params", ()),
        ("agent.gradient_clipping=null", "agent", "gradient_clipping", None),
        ("agent.gamma=1", "agent", "gamma", 1.0),
    ],
)
def test_values_are_yaml_with_plain_exponents(
    assignment: str, section: str, key: str, value: object
) -> None:
    config = loading.load("tutorial", [assignment])
    assert getattr(getattr(config, section), key) == value


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("optimizer.learning_rat=1", ["optimizer.learning_rat", "did you mean 'learning_rate'"]),
        ("gamma=0.9", ["'gamma'", "did you mean 'agent.gamma'"]),
        ("agent.loss=mse", ["agent.loss", "'mse'", "'squared' or 'huber'"]),
        ("training.seed=abc", ["training.seed", "'abc'", "integer"]),
        ("training.seed=-1", ["training.seed", "-1", "greater than or equal to 0"]),
        ("training.batch_size=true", ["training.batch_size", "True", "integer"]),
        ("training.batch_size=0", ["training.batch_size", "0", "greater than or equal to 1"]),
        ("training.batch_size=1.5", ["training.batch_size", "1.5", "integer"]),
        ("optimizer.learning_rate=.nan", ["optimizer.learning_rate", "nan", "finite"]),
        ("optimizer.learning_rate='1e-4'", ["optimizer.learning_rate", "number"]),
        ("network.fc_layer_params=[8, -1]", ["network.fc_layer_params.1", "-1"]),
        ("env=3", ["env", "3"]),
        ("env.wrappers=[{path: a.B, kwarg: {}}]", ["env.wrappers.0.kwarg", "'kwargs'"]),
        ("evaluation.wrappers=[{path: a.B, k: 1}]", ["evaluation.wrappers.0.k", "path, kwargs"]),
        ("env.wrappers=[{a.B: {}, a.C: {}}]", ["env.wrappers.0", "an entry of its own"]),
        ("env.wrappers=a.B", ["env.wrappers", "'a.B'", "valid list"]),
        ("env.wrappers=[3]", ["env.wrappers.0", "path"]),
        ("env.kwargs={render_mode: human}", ["env.kwargs", "leave render_mode out"]),
        ("env.wrappers=[not a path]", ["env.wrappers.0", "not a path"]),
        ("env.wrappers=[{a.B: 3}]", ["env.wrappers.0.kwargs", "3"]),
        ("network.conv_layer_params=[[8, 3]]", ["network.conv_layer_params.0"]),
        ("env.id.x=3", ["'id' is a value"]),
        ("agent.gamma", ["section.key=value"]),
        ("=3", ["section.key=value"]),
        ("agent.gamma=[1", ["not valid YAML"]),
        ("a.b.c=1", ["'a'", "Keys of the top level"]),
        ("replay.replay_buffer_max_length=10", ["batch must fit", "training.batch_size=64"]),
        ("name=../escape", ["name", "../escape"]),
        ("agent.kind=rainbow", ["agent.kind", "'dqn', 'double_dqn', 'c51' or 'double_c51'"]),
        ("agent.n_step=0", ["agent.n_step", "greater than or equal to 1"]),
        ("agent.num_atoms=11", ["agent: num_atoms=11", "kind=c51 or double_c51 alone"]),
        ("agent={kind: c51, loss: huber}", ["loss=huber", "kind=dqn or double_dqn alone"]),
        (
            "agent={v_min: 0.0, v_max: 1.0, num_atoms: 5}",
            ["num_atoms=5, v_min=0.0, v_max=1.0", "kind is dqn", "or null"],
        ),
        ("agent={kind: c51, v_min: 1e8, v_max: 100000001.0}", ["too near each other"]),
        ("agent={kind: c51, num_atoms: 10000}", ["agent.num_atoms", "less than or equal to 1000"]),
        (
            "exploration={policy: boltzmann, temperature: 1e-9}",
            ["exploration.temperature", "1e-09"],
        ),
        ("exploration.temperature=1.0", ["temperature=1.0", "policy is epsilon_greedy"]),
        ("exploration.decay_steps=10", ["decay_steps=10", "schedule is constant"]),
        ("replay.alpha=0.5", ["alpha=0.5", "kind=prioritized alone", "kind is uniform"]),
        ("optimizer.weight_decay=0.1", ["weight_decay=0.1", "kind=adamw alone"]),
        ("optimizer.final_learning_rate=0.1", ["schedule=linear or cosine alone"]),
        ("optimizer={kind: rmsprop, beta_1: 0.5}", ["beta_1=0.5", "kind is rmsprop"]),
    ],
)
def test_a_wrong_assignment_names_itself_the_key_the_value_and_what_is_allowed(
    assignment: str, parts: list[str]
) -> None:
    message = _message(assignment)
    for part in parts:
        assert part in message


def test_keys_that_do_not_fit_together_name_all_that_was_given() -> None:
    message = _message("training.batch_size=64", "replay.replay_buffer_max_length=10")
    assert "tutorial.yaml, --set training.batch_size=64, --set replay." in message


@pytest.mark.parametrize(
    ("assignments", "parts"),
    [
        (
            ["agent={kind: c51, v_min: 2, v_max: 2}"],
            ["v_min=2 is not below v_max=2", "from the one up to the other"],
        ),
        (
            ["agent.n_step=10", "env.num_envs=10", "replay.replay_buffer_max_length=80"],
            ["agent.n_step=10 is longer than the replay", "8 steps", "keep at least 100"],
        ),
        (
            ["exploration={policy: boltzmann, schedule: linear, initial_epsilon: 1.0}"],
            ["initial_epsilon=1.0", "policy=epsilon_greedy alone, and policy is boltzmann"],
        ),
        (
            ["exploration={schedule: exponential, epsilon: 0}"],
            ["initial_epsilon=1 to epsilon=0", "no factor leads", "schedule=linear"],
        ),
        (
            ["network={dueling: true, fc_layer_params: [8, 1]}"],
            ["fc_layer_params=[8, 1]", "2 units or more"],
        ),
    ],
)
def test_what_makes_no_sense_together_says_why(assignments: list[str], parts: list[str]) -> None:
    message = _message(*assignments)
    for part in [*parts, *(f"--set {each}" for each in assignments)]:
        assert part in message


def test_null_takes_the_default_of_what_is_read() -> None:
    config = loading.default_config("x", ["replay.kind=prioritized", "exploration.schedule=linear"])
    assert (config.replay.alpha, config.replay.initial_beta, config.replay.beta) == (0.6, 0.4, 1.0)
    assert config.exploration.initial_epsilon == 1.0
    assert (config.agent.loss, config.agent.num_atoms) == ("squared", None)
    again = loading.load_text(loading.dump(config), "again")
    assert again == config


def test_what_several_kinds_read_is_read_by_each() -> None:
    """Exponents, by prioritized replay, be it dqnkit's own or Reverb's."""
    reverb = loading.default_config("x", ["replay.kind=reverb", "replay.sampler=prioritized"])
    assert (reverb.replay.alpha, reverb.replay.initial_beta, reverb.replay.beta) == (0.6, 0.4, 1.0)
    assert reverb.replay.is_prioritized
    plain = loading.default_config("x", ["replay.kind=reverb"]).replay
    assert (plain.sampler, plain.alpha, plain.is_prioritized) == ("uniform", None, False)
    with pytest.raises(ConfigError, match=r"alpha=0\.5: read with sampler=prioritized alone"):
        loading.default_config("x", ["replay.kind=reverb", "replay.alpha=0.5"])
    with pytest.raises(ConfigError, match="sampler=uniform: read with kind=reverb alone"):
        loading.default_config("x", ["replay.sampler=uniform"])
    assert loading.load_text(loading.dump(reverb), "again").replay == reverb.replay


def test_another_choice_on_the_command_line_takes_its_own_defaults() -> None:
    """The file chose for itself; what it gives to its own choice is no mistake of the user's."""
    config = loading.load("cartpole", ["exploration.policy=boltzmann", "agent.kind=c51"])
    assert (config.exploration.epsilon, config.exploration.temperature) == (None, 1.0)
    assert config.exploration.schedule == "linear"  # which both policies have
    assert (config.agent.loss, config.agent.num_atoms) == (None, 51)
    recorded = loading.dump(config)
    again = loading.load_text(recorded, "again", ["agent.kind=dqn"])
    assert (again.agent.num_atoms, again.agent.loss) == (None, "squared")
    with pytest.raises(ConfigError, match=r"epsilon=0\.2: read with policy=epsilon_greedy alone"):
        loading.load("cartpole", ["exploration.policy=boltzmann", "exploration.epsilon=0.2"])


def test_a_file_that_gives_what_it_does_not_read_is_a_mistake() -> None:
    text = "exploration: {policy: boltzmann, epsilon: 0.1}"
    with pytest.raises(ConfigError, match=r"^mine: exploration: epsilon=0.1: read with"):
        loading.load_text(text, "mine")
    # And by no assignment becomes none.
    with pytest.raises(ConfigError, match=r"exploration: epsilon=0\.1: read with"):
        loading.load_text(text, "mine", ["exploration.schedule=linear"])


def test_a_record_of_an_earlier_version_is_read_without_what_nothing_reads() -> None:
    text = "name: old\nexploration: {schedule: constant, initial_epsilon: 1.0, decay_steps: 10000}"
    config = loading.load_recorded(text, "old")
    assert config.exploration == Config().exploration
    with pytest.raises(ConfigError, match="initial_epsilon"):
        loading.load_text(text, "old")


def test_another_choice_leaves_out_what_it_does_not_read() -> None:
    config = loading.default_config("x", ["agent.kind=c51", "agent.v_max=3"])
    options = {"agent.kind": loading.Override("search.agent.kind=dqn", "dqn")}
    chosen = loading.override_choices(config, options)
    assert (chosen.agent.kind, chosen.agent.v_max, chosen.agent.loss) == ("dqn", None, "squared")
    searched = loading.Override("search.agent.v_max=9", 9.0)
    with pytest.raises(ConfigError, match=r"v_max=9\.0: read with"):
        loading.override(config, {**options, "agent.v_max": searched})
    assert loading.override_choices(config, {**options, "agent.v_max": searched}) == chosen


def test_an_option_is_called_what_the_user_called_it() -> None:
    option = {"training.seed": loading.Override("--seed -4", -4)}
    with pytest.raises(ConfigError, match=r"^--seed -4: training\.seed: -4 was given"):
        loading.load("tutorial", [], option)
    option = {"env.id": loading.Override("--env [x", "[x")}
    assert loading.load("tutorial", ["env.id=Other-v0"], option).env.id == "[x"


def test_an_environment_alone_picks_its_experiment() -> None:
    assert loading.load_for_environment("Acrobot-v1").name == "acrobot"
    option = {"env.id": loading.Override("--env ns/Thing-v0", "ns/Thing-v0")}
    config = loading.load_for_environment("ns/Thing-v0", [], option)
    assert (config.name, config.env.id) == ("ns-thing-v0", "ns/Thing-v0")


def test_a_mistake_in_a_file_names_the_file() -> None:
    Path("mine.yaml").write_text("agent:\n  gama: 0.9\n", encoding="utf-8")
    message = _message(experiment="mine.yaml")
    assert "mine.yaml" in message
    assert "did you mean 'gamma'" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("agent: [1", "not valid YAML"),
        ("- 1\n- 2\n", "holds a list"),
        ("agent:\n  gamma: 0.9\n  gamma: 0.8\n", "twice"),
        ("agent: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nagent: {loss: *c}\n", "agent.loss"),
    ],
)
def test_a_bad_document_is_explained(text: str, part: str) -> None:
    Path("bad.yaml").write_text(text, encoding="utf-8")
    message = _message(experiment="bad.yaml")
    assert "bad.yaml" in message
    assert part in message


def test_bytes_that_are_not_text_are_explained() -> None:
    Path("bad.yaml").write_bytes(b"\xff\xfe\x00agent")
    assert "bad.yaml" in _message(experiment="bad.yaml")


def test_an_unknown_experiment_names_the_nearest_and_all() -> None:
    message = _message(experiment="cartpol")
    assert "did you mean 'cartpole'" in message
    assert "mountain-car" in message
    assert "is a folder" in _message(experiment=".")


def test_an_empty_file_is_the_defaults_under_the_file_name() -> None:
    Path("my run.yaml").write_text("", encoding="utf-8")
    assert loading.load("my run.yaml") == Config(name="my-run")


def test_the_committed_schema_is_the_configuration_s() -> None:
    committed = (ROOT / "experiments" / "schema.json").read_text(encoding="utf-8")
    assert committed == loading.json_schema()
    assert json.loads(committed)["properties"]["agent"]


def test_every_key_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [key for key in Config().flat() if f"| `{key}` |" not in page] == []


def test_flat_names_every_key_once() -> None:
    flat = loading.load("tutorial").flat()
    assert flat["agent.gamma"] == 1.0
    assert flat["network.fc_layer_params"] == [100, 50]
    assert not any(isinstance(v, dict) and v for v in flat.values())
