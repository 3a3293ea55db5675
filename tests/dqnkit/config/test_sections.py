from __future__ import annotations

from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import (
    AgentConfig,
    Config,
    EnvConfig,
    ExplorationConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    WrapperConfig,
    is_address,
)
from dqnkit.errors import ConfigError


def _config(*overrides: str) -> Config:
    return loading.default_config("x", overrides)


def _message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _config(*overrides)
    return str(caught.value)


def test_the_defaults_are_those_of_the_tutorial() -> None:
    config = Config()
    assert config.name == "dqn"
    assert (config.agent.kind, config.agent.loss) == ("dqn", "squared")
    assert (config.agent.target_update_period, config.agent.target_update_tau) == (1, 1.0)
    assert (config.optimizer.kind, config.optimizer.learning_rate) == ("adam", 1e-3)
    assert (config.exploration.schedule, config.exploration.epsilon) == ("constant", 0.1)
    assert config.replay.replay_buffer_max_length == 100_000
    assert (config.training.num_iterations, config.training.batch_size) == (20_000, 64)
    assert config.training.num_actors is None


@pytest.mark.parametrize("section", list(Config.model_fields))
def test_every_key_has_a_description(section: str) -> None:
    model = getattr(Config(), section)
    fields = getattr(type(model), "model_fields", {section: Config.model_fields[section]})
    for name, field in fields.items():
        assert (field.description or "").endswith("."), f"{section}.{name}"


@pytest.mark.parametrize(
    ("wrapper", "path", "kwargs"),
    [
        ("a.B", "a.B", {}),
        ("a.b:C", "a.b:C", {}),
        ({"a.B": {"x": [1, 2]}}, "a.B", {"x": [1, 2]}),
        ({"a.B": None}, "a.B", {}),
        ({"path": "a.B"}, "a.B", {}),
        ({"path": "a.B", "kwargs": {"path": 1}}, "a.B", {"path": 1}),
    ],
)
def test_short_forms_of_wrappers(wrapper: Any, path: str, kwargs: dict[str, Any]) -> None:
    (expanded,) = EnvConfig(wrappers=[wrapper]).wrappers  # type: ignore[arg-type]
    assert expanded == WrapperConfig(path=path, kwargs=kwargs)


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("env.wrappers=[{path: a.B, kwarg: {}}]", ["env.wrappers.0.kwarg", "'kwargs'"]),
        ("evaluation.wrappers=[{path: a.B, k: 1}]", ["evaluation.wrappers.0.k", "path, kwargs"]),
        ("env.wrappers=[{a.B: {}, a.C: {}}]", ["env.wrappers.0", "an entry of its own"]),
        ("env.wrappers=a.B", ["env.wrappers", "'a.B'", "valid list"]),
        ("env.wrappers=[3]", ["env.wrappers.0", "path, or path: arguments"]),
        ("env.wrappers=[not a path]", ["env.wrappers.0", "not a path"]),
        ("env.wrappers=[single]", ["env.wrappers.0", "single"]),
        ("env.wrappers=[{a.B: 3}]", ["env.wrappers.0.kwargs", "3", "valid mapping"]),
        ("env.kwargs={render_mode: human}", ["env.kwargs", "remove render_mode"]),
    ],
)
def test_mistakes_in_wrappers_and_arguments(override: str, parts: list[str]) -> None:
    message = _message(override)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "address", ["localhost:1", "10.0.0.1:65535", "[::1]:8000", "a-b.example.org:80", "h_1:9"]
)
def test_addresses(address: str) -> None:
    assert is_address(address)
    assert ReplayConfig(kind="reverb", address=address).address == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:x",
        "a b:1",
        "::1:80",
        "a:\u0661",
    ],
)
def test_other_texts_are_no_addresses(text: str) -> None:
    assert not is_address(text)
    message = _message("replay.kind=reverb", f"replay.address='{text}'")
    assert "replay.address: " in message
    assert "write HOST:PORT, as printed by `dqnkit replay-server`" in message


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        ("dqn", ("squared", None)),
        ("double_dqn", ("squared", None)),
        ("c51", (None, 51)),
        ("double_c51", (None, 51)),
    ],
)
def test_defaults_of_each_agent(kind: Any, defaults: tuple[Any, ...]) -> None:
    agent = AgentConfig(kind=kind)
    assert (agent.loss, agent.num_atoms) == defaults
    assert (agent.v_min, agent.v_max) == (None, None)
    assert agent.is_categorical == kind.endswith("c51")


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("adam", {"beta_1": 0.9, "beta_2": 0.999}),
        ("adamw", {"beta_1": 0.9, "beta_2": 0.999, "weight_decay": 0.01}),
        ("rmsprop", {"rho": 0.9, "momentum": 0.0, "centered": False}),
    ],
)
def test_defaults_of_each_optimizer(kind: Any, given: dict[str, Any]) -> None:
    conditional = {"beta_1", "beta_2", "weight_decay", "rho", "momentum", "centered"}
    values = OptimizerConfig(kind=kind).model_dump(include=conditional, exclude_none=True)
    assert values == given


@pytest.mark.parametrize(
    ("policy", "schedule", "given"),
    [
        ("epsilon_greedy", "constant", {"epsilon": 0.1}),
        (
            "epsilon_greedy",
            "linear",
            {"epsilon": 0.1, "initial_epsilon": 1.0, "decay_steps": 10_000},
        ),
        ("boltzmann", "constant", {"temperature": 1.0}),
        (
            "boltzmann",
            "exponential",
            {"temperature": 1.0, "initial_temperature": 10.0, "decay_steps": 10_000},
        ),
    ],
)
def test_defaults_of_each_behaviour_policy(
    policy: Any, schedule: Any, given: dict[str, Any]
) -> None:
    section = ExplorationConfig(policy=policy, schedule=schedule)
    assert section.model_dump(exclude={"policy", "schedule"}, exclude_none=True) == given
    assert section.parameter == ("epsilon" if policy == "epsilon_greedy" else "temperature")


def test_schedules_of_the_learning_rate() -> None:
    assert OptimizerConfig().final_learning_rate is None
    cosine = OptimizerConfig(schedule="cosine")
    assert (cosine.final_learning_rate, cosine.decay_updates) == (0.0, None)
    assert OptimizerConfig(schedule="linear", decay_updates=5).decay_updates == 5


def test_prioritized_replay_has_exponents_in_dqnkit_and_in_reverb() -> None:
    own = ReplayConfig(kind="prioritized")
    reverb = ReplayConfig(kind="reverb", sampler="prioritized")
    for replay in (own, reverb):
        assert (replay.alpha, replay.initial_beta, replay.beta) == (0.6, 0.4, 1.0)
        assert replay.beta_steps is None
        assert replay.is_prioritized
    for replay in (ReplayConfig(), ReplayConfig(kind="reverb")):
        assert (replay.alpha, replay.beta, replay.is_prioritized) == (None, None, False)
    assert (own.sampler, reverb.sampler, ReplayConfig(kind="reverb").sampler) == (
        None,
        "prioritized",
        "uniform",
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["agent.num_atoms=11"],
            "agent: num_atoms=11: only applies with kind=c51 or double_c51, and kind is dqn",
        ),
        (
            ["agent={kind: c51, loss: huber}"],
            "agent: loss=huber: only applies with kind=dqn or double_dqn, and kind is c51",
        ),
        (
            ["agent={v_min: 0.0, v_max: 1.0, num_atoms: 5}"],
            "num_atoms=5, v_min=0.0, v_max=1.0: only apply with kind=c51 or double_c51, and kind "
            "is dqn; remove them, or set them to null",
        ),
        (
            ["optimizer.momentum=0.9"],
            "optimizer: momentum=0.9: only applies with kind=rmsprop, and kind is adam; remove it, "
            "or set it to null",
        ),
        (["optimizer.weight_decay=0.1"], "weight_decay=0.1: only applies with kind=adamw"),
        (["optimizer={kind: rmsprop, beta_1: 0.5}"], "beta_1=0.5: only applies with kind=adam or"),
        (
            ["optimizer.final_learning_rate=0.1"],
            "only applies with schedule=linear or cosine, and schedule is constant",
        ),
        (
            ["exploration.temperature=1.0"],
            "temperature=1.0: only applies with policy=boltzmann, and policy is epsilon_greedy",
        ),
        (
            ["exploration.decay_steps=10"],
            "only applies with schedule=linear or exponential, and schedule is constant",
        ),
        (
            ["exploration={policy: boltzmann, schedule: linear, initial_epsilon: 1.0}"],
            "initial_epsilon=1.0: only applies with policy=epsilon_greedy, and policy is boltzmann",
        ),
        (
            ["replay.alpha=0.5"],
            "alpha=0.5: only applies with kind=prioritized, and kind is uniform",
        ),
        (
            ["replay.kind=reverb", "replay.alpha=0.5"],
            "alpha=0.5: only applies with sampler=prioritized, and sampler is uniform",
        ),
        (["replay.sampler=uniform"], "sampler=uniform: only applies with kind=reverb"),
        (["replay.address=a:1"], "address=a:1: only applies with kind=reverb"),
    ],
)
def test_values_that_do_not_apply_name_the_choice_that_they_need(
    overrides: list[str], message: str
) -> None:
    assert message in _message(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["agent={kind: c51, v_min: 2, v_max: 2}"],
            "agent: v_min=2 is not below v_max=2: the atoms of c51 range from v_min up to v_max",
        ),
        (
            ["agent={kind: c51, v_min: 1e8, v_max: 100000001.0}"],
            "agent: v_min=1e+08 and v_max=1e+08 are too close together for num_atoms=51",
        ),
        (
            ["network={dueling: true, fc_layer_params: [8, 1]}"],
            "network: fc_layer_params=[8, 1]: dueling=true splits the last layer between value and "
            "advantage, so it needs at least 2 units",
        ),
        (
            ["exploration={schedule: exponential, epsilon: 0}"],
            "exploration: schedule=exponential multiplies initial_epsilon=1 by a factor per step "
            "until epsilon=0, and no factor leads to or from 0: use values above 0, or "
            "schedule=linear",
        ),
        (
            ["replay.replay_buffer_max_length=10"],
            "replay.replay_buffer_max_length=10 is smaller than training.batch_size=64: a batch "
            "must fit into the replay",
        ),
        (
            ["replay.replay_buffer_max_length=100", "env.num_envs=101"],
            "replay.replay_buffer_max_length=100 is smaller than env.num_envs=101: one step of all "
            "environments must fit into the replay",
        ),
        (
            ["agent.n_step=10", "env.num_envs=10", "replay.replay_buffer_max_length=80"],
            "agent.n_step=10 does not fit into the replay: replay.replay_buffer_max_length=80 with "
            "env.num_envs=10 holds 8 steps of each environment; set a capacity of at least 100",
        ),
        (
            ["env.vectorization=vector_entry_point", "env.wrappers=[a.B]"],
            "env.wrappers contains a.B, and env.vectorization=vector_entry_point has no single "
            "environments to wrap: use env.vectorization=sync or async",
        ),
        (
            ["env.vectorization=vector_entry_point", "evaluation.wrappers=[a.B]"],
            "evaluation.wrappers contains a.B, and env.vectorization=vector_entry_point",
        ),
        (
            ["training.num_actors=2"],
            "training.num_actors=2 needs replay.kind=reverb, which carries transitions from the "
            "actors to the learner, and replay.kind is uniform",
        ),
        (
            [
                "replay.kind=reverb",
                "training.num_actors=2",
                "training.gradient_steps_per_iteration=0",
            ],
            "training.gradient_steps_per_iteration=0 with training.num_actors=2: a learner whose "
            "actors run in other processes has only updates to make; set at least 1",
        ),
        (
            ["replay.kind=reverb", "training.num_actors=0"],
            "training.num_actors=0 needs replay.address: actors on other hosts must reach the "
            "replay server; start one with `dqnkit replay-server --host 0.0.0.0`",
        ),
        (
            ["replay.kind=reverb", "replay.samples_per_insert=32"],
            "replay.samples_per_insert=32: a process that collects and learns in turn samples 64 "
            "transitions per transition added",
        ),
    ],
)
def test_values_that_do_not_go_together_say_why(overrides: list[str], message: str) -> None:
    given = _message(*overrides)
    assert message in given
    # The kind of replay does not take part in the combinations that it makes possible.
    involved = [each for each in overrides if each != "replay.kind=reverb"]
    assert given.startswith(f"the defaults, {', '.join(involved)}: ")


def test_values_at_the_limit_of_a_combination_are_accepted() -> None:
    _config("replay.replay_buffer_max_length=64")
    _config("agent.n_step=10", "env.num_envs=10", "replay.replay_buffer_max_length=100")
    _config("env.vectorization=vector_entry_point", "env.wrappers=[]")
    _config("replay.kind=reverb", "replay.samples_per_insert=64")
    _config("replay.kind=reverb", "replay.samples_per_insert=8", "training.num_actors=2")
    _config("replay.kind=reverb", "replay.address=a:1", "training.num_actors=0")
    NetworkConfig(dueling=True, fc_layer_params=(8, 2))
    NetworkConfig(dueling=True, fc_layer_params=())
    AgentConfig(kind="c51", v_min=0.0, v_max=1e-30)
    ExplorationConfig(schedule="linear", epsilon=0.0)


def test_counts_of_a_training() -> None:
    config = _config(
        "env.num_envs=8",
        "training.num_iterations=1000",
        "training.initial_collect_steps=100",
        "training.collect_steps_per_iteration=2",
        "training.gradient_steps_per_iteration=4",
        "training.batch_size=32",
        "evaluation.eval_interval=300",
    )
    assert config.steps_per_iteration == 16
    # 100 initial steps take 13 steps of 8 environments.
    assert config.num_env_steps == 104 + 16_000
    assert config.num_updates == 4_000
    assert config.num_evaluations == 4
    assert config.drawn_per_step == 4 * 32 / 16


def test_the_rate_limiter_decides_the_steps_of_actors() -> None:
    config = _config(
        "replay.kind=reverb",
        "replay.samples_per_insert=16",
        "training.num_actors=2",
        "training.num_iterations=1000",
        "training.initial_collect_steps=100",
        "training.batch_size=32",
    )
    assert config.num_env_steps == 100 + 1_000 * 32 / 16


def test_another_seed_changes_nothing_else() -> None:
    config = loading.load("cartpole")
    changed = config.with_seed(7)
    assert changed.training.seed == 7
    assert config.training.seed == 0
    assert changed.with_seed(0) == config


def test_flat_values_have_every_key_once() -> None:
    flat = loading.load("tutorial").flat()
    assert flat["name"] == "tutorial"
    assert flat["agent.gamma"] == 1.0
    assert flat["network.fc_layer_params"] == [100, 50]
    assert not any(isinstance(value, dict) and value for value in flat.values())
    keys = [key for key in loading.config_keys() if "." in key]
    assert sorted(flat) == sorted(["name", "description", *keys])
