from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.config.loading import Override, Overrides, parse_override
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, ConfigError
from tests.conftest import ROOT

KEYS_OF_ENV = "id, kwargs, wrappers, frame_stack, channels, num_envs, vectorization, step_timeout"


def _message(*overrides: str | Override, experiment: str = "tutorial") -> str:
    with pytest.raises(ConfigError) as caught:
        loading.load(experiment, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


def _message_of_text(text: str, overrides: Overrides = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        loading.load_text(text, "my.yaml", overrides)
    return str(caught.value)


class TestExperiments:
    @pytest.mark.parametrize("name", loading.experiment_names())
    def test_a_committed_experiment_survives_a_round_trip(self, name: str) -> None:
        config = loading.load(name)
        assert config.name == name
        assert config.description.endswith(".")
        Path("again.yaml").write_text(loading.dump(config), encoding="utf-8")
        assert loading.load("again.yaml") == config

    def test_the_experiments_of_the_readme_are_committed(self) -> None:
        names = loading.experiment_names()
        assert {"tutorial", "cartpole", "acrobot", "mountain-car"} <= set(names)
        assert names == sorted(names)
        assert loading.load() == loading.load(loading.DEFAULT_EXPERIMENT)

    def test_the_tutorial_has_exactly_the_settings_of_the_tutorial(self) -> None:
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
        assert training.collect_steps_per_iteration == 1
        assert training.gradient_steps_per_iteration == 1
        assert (training.batch_size, training.log_interval) == (64, 200)
        assert config.evaluation.num_eval_episodes == 10
        assert config.evaluation.eval_interval == 1_000

    def test_the_tutorial_with_reverb_differs_in_its_replay_only(self) -> None:
        config, tutorial = loading.load("tutorial-reverb"), loading.load("tutorial")
        assert (config.replay.kind, config.replay.sampler) == ("reverb", "uniform")
        same = {key: getattr(tutorial, key) for key in ("name", "description", "replay")}
        assert config.model_copy(update=same) == tutorial
        capacity = tutorial.replay.replay_buffer_max_length
        assert config.replay.replay_buffer_max_length == capacity

    def test_an_unknown_experiment_names_the_nearest_and_all(self) -> None:
        message = _message(experiment="cartpol")
        assert "did you mean 'cartpole'" in message
        assert "mountain-car" in message
        assert "give the path of a YAML file" in message

    @pytest.mark.parametrize("name", ["a" * 5_000, "\x00"])
    def test_a_name_that_is_none_is_an_unknown_experiment(self, name: str) -> None:
        assert "there is no experiment" in _message(experiment=name)

    @pytest.mark.parametrize(
        ("path", "problem"),
        [
            ("mine.yaml", "there is no file 'mine.yaml' here (did you mean 'mines.yaml'?)"),
            ("x.yml", "there is no file 'x.yml' here; `dqnkit experiments` lists the committed"),
            ("other.yaml", "there is no file 'other.yaml' here; there are a.yaml, mines.yaml; "),
            ("no/where", "there is no file 'no/where': there is no folder 'no'"),
            ("/a/b.yaml", "there is no file '/a/b.yaml': there is no folder '/a'"),
        ],
    )
    def test_a_file_that_is_missing_is_told_with_those_beside_it(
        self, path: str, problem: str
    ) -> None:
        for name in ("mines.yaml", "a.yaml", "b.txt"):
            Path(name).touch()
        assert problem in _message(experiment=path)

    @pytest.mark.parametrize(
        ("key", "meant"),
        [
            ("optimizer.lr", "learning_rate"),
            ("lr", "optimizer.learning_rate"),
            ("training.total_timesteps", "num_iterations"),
            ("replay.buffer_size", "replay_buffer_max_length"),
        ],
    )
    def test_names_of_other_tools_are_understood(self, key: str, meant: str) -> None:
        assert f"there is no key {key!r} (did you mean {meant!r}?)" in _message(f"{key}=1")

    def test_a_list_that_the_shell_has_divided_gets_the_remedy(self) -> None:
        """The shell makes two arguments of an unquoted `[64, 64]`."""
        message = _message("network.fc_layer_params=[64,")
        assert (
            "needs quotes around all of it, such as 'network.fc_layer_params=[64, 64]'" in message
        )

    def test_a_directory_is_not_an_experiment(self) -> None:
        assert "'.' is a directory" in _message(experiment=".")

    def test_an_environment_has_the_committed_experiment(self) -> None:
        config = loading.load_for_environment("Acrobot-v1", {"training.seed": 2})
        assert config == loading.load("acrobot", {"training.seed": 2})

    def test_another_environment_has_the_defaults(self) -> None:
        config = loading.load_for_environment("ns/Thing-v0", ["training.seed=2"])
        assert (config.name, config.env.id) == ("ns-thing-v0", "ns/Thing-v0")
        assert config == loading.default_config(
            "ns-thing-v0", {"env.id": "ns/Thing-v0", "training.seed": 2}
        )

    @pytest.mark.parametrize(
        ("given", "env_id"),
        [
            ("ALE/Pong-v5", "ALE/Pong-v5"),
            ("ALE/Pong", "ALE/Pong-v5"),
            ("ale_py:ALE/Pong-v5", "ale_py:ALE/Pong-v5"),
            ("ale_py:ALE/Pong", "ale_py:ALE/Pong"),
        ],
    )
    def test_an_id_in_any_form_finds_its_experiment(self, given: str, env_id: str) -> None:
        config = loading.load_for_environment(given)
        assert config.env.id == env_id
        assert config == loading.load("atari-pong", {"env.id": env_id})

    @pytest.mark.parametrize("given", ["Pong-v5", "ALE/Pong-v4", "ALE/Pong-v50", "x:Pong-v5"])
    def test_another_namespace_or_version_is_another_environment(self, given: str) -> None:
        assert loading.load_for_environment(given).name == given.lower().replace("/", "-").replace(
            ":", "-"
        )

    def test_an_invalid_environment_names_the_argument(self) -> None:
        with pytest.raises(ConfigError, match=r"^env_id=: env\.id: '' was given"):
            loading.load_for_environment("")


class TestDocuments:
    def test_an_empty_file_is_the_defaults_under_the_file_name(self) -> None:
        Path("my run.yaml").write_text("", encoding="utf-8")
        assert loading.load("my run.yaml") == Config(name="my-run")

    @pytest.mark.parametrize(
        ("stem", "name"), [("x" * 150, "x" * 100), ("-._a", "a"), ("é", "dqn"), ("a b/c", "a-b-c")]
    )
    def test_a_name_has_the_allowed_characters(self, stem: str, name: str) -> None:
        assert loading.default_config(stem).name == name

    def test_a_name_in_the_file_wins_over_that_of_the_file(self) -> None:
        Path("mine.yaml").write_text("name: other", encoding="utf-8")
        assert loading.load("mine.yaml").name == "other"

    def test_a_mistake_in_a_file_names_the_file(self) -> None:
        Path("mine.yaml").write_text("agent:\n  gama: 0.9\n", encoding="utf-8")
        assert _message(experiment="mine.yaml") == (
            "mine.yaml: there is no key 'agent.gama' (did you mean 'gamma'?). Keys of the section "
            "'agent': kind, gamma, n_step, target_update_period, target_update_tau, loss, "
            "gradient_clipping, num_atoms, v_min, v_max"
        )

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("agent: [1", "is not valid YAML: "),
            ("- 1\n- 2\n", "contains [1, 2], and a configuration is a mapping of sections (name,"),
            ("3", "contains 3, and"),
            ("agent:\n  gamma: 0.9\n  gamma: 0.8\n", "'gamma' is given twice"),
            ("agent: !!python/object/apply:os.system ['true']\n", "is not valid YAML: "),
            ("a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nagent: {loss: *c}\n", "agent.loss"),
        ],
    )
    def test_an_invalid_document_is_explained(self, text: str, part: str) -> None:
        Path("bad.yaml").write_text(text, encoding="utf-8")
        message = _message(experiment="bad.yaml")
        assert "bad.yaml: " in message
        assert part in message

    def test_bytes_that_are_not_text_are_explained(self) -> None:
        Path("bad.yaml").write_bytes(b"\xff\xfe\x00agent")
        assert _message(experiment="bad.yaml").startswith("bad.yaml: is not valid YAML: ")

    def test_a_file_that_cannot_be_read_is_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*_: object, **__: object) -> str:
            raise PermissionError(13, "Permission denied")

        Path("mine.yaml").touch()
        monkeypatch.setattr(Path, "read_text", denied)
        assert _message(experiment="mine.yaml") == "mine.yaml: cannot be read: Permission denied"

    def test_several_mistakes_are_reported_together(self) -> None:
        message = _message_of_text("agent: {gamma: 2, loss: mse}\ntraining: {seed: x}")
        assert [line.split(": ")[1] for line in message.splitlines()] == [
            "agent.gamma",
            "agent.loss",
            "training.seed",
        ]

    def test_a_value_in_place_of_a_section_names_its_keys(self) -> None:
        assert _message_of_text("env: CartPole-v1") == (
            f"my.yaml: env: 'CartPole-v1' was given, but it is a section with keys ({KEYS_OF_ENV})"
        )

    def test_a_dumped_configuration_is_loaded_to_an_equal_one(self) -> None:
        config = loading.default_config(
            "x", ["replay.kind=prioritized", "exploration.schedule=linear", "agent.kind=c51"]
        )
        assert (config.replay.alpha, config.exploration.initial_epsilon) == (0.6, 1.0)
        assert loading.load_text(loading.dump(config), "again") == config

    def test_a_value_that_does_not_apply_in_a_file_is_a_mistake(self) -> None:
        text = "exploration: {policy: boltzmann, epsilon: 0.1}"
        expected = "exploration: epsilon=0.1: only applies with policy=epsilon_greedy"
        assert _message_of_text(text).startswith(f"my.yaml: {expected}")
        # An override of another key does not hide it, and is not named.
        message = _message_of_text(text, ["exploration.schedule=linear"])
        assert message.startswith(f"my.yaml: {expected}")

    def test_a_record_of_an_earlier_version_loses_values_that_do_not_apply(self) -> None:
        text = "name: old\nexploration: {schedule: constant, initial_epsilon: 1.0, decay_steps: 9}"
        assert loading.load_recorded(text, "old").exploration == Config().exploration
        with pytest.raises(ConfigError, match=r"^old: exploration: initial_epsilon=1\.0, decay_st"):
            loading.load_text(text, "old")

    def test_the_committed_schema_is_that_of_the_configuration(self) -> None:
        committed = (ROOT / "experiments" / "schema.json").read_text(encoding="utf-8")
        assert committed == loading.json_schema()
        assert json.loads(committed)["properties"]["agent"]

    def test_every_key_is_documented(self) -> None:
        page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
        assert [key for key in Config().flat() if f"| `{key}` |" not in page] == []


class TestOverrides:
    def test_they_win_over_the_file_and_later_ones_over_earlier_ones(self) -> None:
        overrides = ["training.seed=3", "training.seed=4", "agent.gamma=0.9"]
        config = loading.load("tutorial", overrides)
        assert (config.training.seed, config.agent.gamma) == (4, 0.9)

    @pytest.mark.parametrize(
        "overrides",
        [
            ["training.seed=1", "optimizer.kind=adamw"],
            ("training.seed=1", "optimizer.kind=adamw"),
            (each for each in ("training.seed=1", "optimizer.kind=adamw")),
            {"training.seed": 1, "optimizer.kind": "adamw"},
            {"training": {"seed": 1}, "optimizer": {"kind": "adamw"}},
            {"training.seed": 1, "optimizer": {"kind": "adamw"}},
            MappingProxyType(
                {"training": MappingProxyType({"seed": 1}), "optimizer.kind": "adamw"}
            ),
            [Override("training.seed", 1), "optimizer.kind=adamw"],
            [Override("training.seed", 1, "the seed"), parse_override("optimizer.kind=adamw")],
        ],
    )
    def test_lists_mappings_and_mixtures_are_equivalent(self, overrides: Overrides) -> None:
        config = loading.load("cartpole", overrides)
        assert (config.training.seed, config.optimizer.kind) == (1, "adamw")
        assert config.optimizer.weight_decay == 0.01
        # Other keys of the sections keep the values of the file.
        assert config.optimizer.learning_rate == 2.5e-4
        assert config.training.batch_size == 128

    def test_every_loader_takes_them(self) -> None:
        overrides = {"training.seed": 5}
        config = loading.default_config("x")
        for changed in (
            loading.load("tutorial", overrides),
            loading.load_text("name: a", "text", overrides),
            loading.default_config("x", overrides),
            loading.load_for_environment("CartPole-v1", overrides),
            loading.load_for_environment("Other-v0", overrides),
            loading.override(config, overrides),
            loading.override_choices(config, overrides),
        ):
            assert changed.training.seed == 5
        assert config.training.seed == 0

    def test_later_items_win_whatever_their_form(self) -> None:
        overrides: list[str | Override] = [Override("training.seed", 1), "training.seed=2"]
        assert loading.default_config("x", overrides).training.seed == 2
        assert loading.default_config("x", overrides[::-1]).training.seed == 1
        both = {"training.seed": 1, "training": {"seed": 2}}
        assert loading.default_config("x", both).training.seed == 2

    def test_a_text_replaces_a_whole_section(self) -> None:
        config = loading.load("cartpole", ["optimizer={kind: adamw}"])
        assert (config.optimizer.kind, config.optimizer.learning_rate) == ("adamw", 1e-3)

    def test_a_mapping_below_a_key_is_its_value(self) -> None:
        text = "env: {kwargs: {size: 3, goal: 4}}"
        replaced = loading.load_text(text, "text", {"env": {"kwargs": {"size": 5}}})
        assert replaced.env.kwargs == {"size": 5}
        extended = loading.load_text(text, "text", {"env.kwargs.size": 5})
        assert extended.env.kwargs == {"size": 5, "goal": 4}
        nested = loading.load_text(text, "text", {"env": {"kwargs.size": 5}})
        assert nested == extended

    def test_an_empty_mapping_changes_nothing(self) -> None:
        assert loading.load("cartpole", {}) == loading.load("cartpole")
        assert loading.load("cartpole", {"optimizer": {}}) == loading.load("cartpole")

    def test_tuples_are_lists(self) -> None:
        overrides = {"network.fc_layer_params": (8, 4), "env.kwargs": {"shape": (1, 2)}}
        config = loading.default_config("x", overrides)
        assert config.network.fc_layer_params == (8, 4)
        assert config.env.kwargs == {"shape": [1, 2]}

    def test_values_of_the_caller_are_not_changed(self) -> None:
        kwargs: dict[str, Any] = {"size": 3}
        overrides = [Override("env.kwargs", kwargs), "env.kwargs.goal=4"]
        config = loading.default_config("x", overrides)
        assert config.env.kwargs == {"size": 3, "goal": 4}
        assert kwargs == {"size": 3}
        assert loading.override(config, {"env.kwargs.size": 9}).env.kwargs["size"] == 9
        assert config.env.kwargs["size"] == 3

    def test_aliases_of_a_file_are_overridden_one_by_one(self) -> None:
        text = "env: {kwargs: {a: &a {x: 1}, b: *a}}"
        config = loading.load_text(text, "text", ["env.kwargs.a.x=2"])
        assert config.env.kwargs == {"a": {"x": 2}, "b": {"x": 1}}

    @pytest.mark.parametrize(
        ("text", "section", "key", "value"),
        [
            ("optimizer.learning_rate=1e-4", "optimizer", "learning_rate", 1e-4),
            ("optimizer.learning_rate=1E-4", "optimizer", "learning_rate", 1e-4),
            ("training.num_iterations=1e5", "training", "num_iterations", 100_000),
            ("training.num_iterations=100_000", "training", "num_iterations", 100_000),
            ("network.fc_layer_params=[64, 64]", "network", "fc_layer_params", (64, 64)),
            ("network.fc_layer_params=[]", "network", "fc_layer_params", ()),
            ("agent.gradient_clipping=null", "agent", "gradient_clipping", None),
            ("agent.gradient_clipping=", "agent", "gradient_clipping", None),
            ("agent.gamma=1", "agent", "gamma", 1.0),
            (" agent . gamma = 1 ", "agent", "gamma", 1.0),
        ],
    )
    def test_values_are_yaml(self, text: str, section: str, key: str, value: object) -> None:
        config = loading.load("tutorial", [text])
        assert getattr(getattr(config, section), key) == value

    def test_a_choice_takes_its_own_defaults(self) -> None:
        """Values that the file gives to its own choice are not a mistake of the user."""
        config = loading.load("cartpole", ["exploration.policy=boltzmann", "agent.kind=c51"])
        assert (config.exploration.epsilon, config.exploration.temperature) == (None, 1.0)
        assert config.exploration.schedule == "linear"  # applies to both policies
        assert (config.agent.loss, config.agent.num_atoms) == (None, 51)
        again = loading.load_text(loading.dump(config), "again", {"agent": {"kind": "dqn"}})
        assert (again.agent.num_atoms, again.agent.loss) == (None, "squared")

    def test_a_choice_beside_a_value_that_does_not_apply_is_a_mistake(self) -> None:
        message = _message(
            "training.seed=3",
            "exploration.policy=boltzmann",
            "exploration.epsilon=0.2",
            experiment="cartpole",
        )
        assert message.endswith(
            "cartpole.yaml, exploration.policy=boltzmann, exploration.epsilon=0.2: exploration: "
            "epsilon=0.2: only applies with policy=epsilon_greedy, and policy is boltzmann; remove "
            "it, or set it to null"
        )

    def test_choices_drop_values_that_do_not_apply(self) -> None:
        config = loading.default_config("x", ["agent.kind=c51", "agent.v_max=3"])
        chosen = loading.override_choices(config, {"agent.kind": "dqn"})
        assert (chosen.agent.kind, chosen.agent.v_max) == ("dqn", None)
        assert chosen.agent.loss == "squared"
        both = {"agent.kind": "dqn", "agent.v_max": 9.0}
        with pytest.raises(ConfigError, match=r"v_max=9\.0: only applies with"):
            loading.override(config, both)
        assert loading.override_choices(config, both) == chosen


class TestParseOverride:
    def test_key_and_value(self) -> None:
        override = parse_override("optimizer.learning_rate=1e-4")
        assert override == ("optimizer.learning_rate", 1e-4, "optimizer.learning_rate=1e-4")
        assert parse_override("a.b.c = [1, 'x=y'] ", "given").given == "given"
        assert parse_override("a.b.c = [1, 'x=y'] ")[:2] == ("a.b.c", [1, "x=y"])

    @pytest.mark.parametrize("text", ["agent.gamma", "=3", "", ".=1", "agent.=1", "a..b=1"])
    def test_another_form_is_explained(self, text: str) -> None:
        for given in (text, "--flag"):
            with pytest.raises(ConfigError) as caught:
                parse_override(text, given if given != text else None)
            assert str(caught.value) == (
                f"{given}: write section.key=value, for example optimizer.learning_rate=1e-4"
            )

    @pytest.mark.parametrize("value", ["[1", "*a", "2020-01-01", "{1: 2}", "!!int ''"])
    def test_an_invalid_value_is_explained(self, value: str) -> None:
        with pytest.raises(ConfigError, match=r"^agent\.gamma=.*: the value is not valid YAML: "):
            parse_override(f"agent.gamma={value}")
        with pytest.raises(ConfigError, match=r"^--flag: the value is not valid YAML: "):
            parse_override(f"agent.gamma={value}", given="--flag")


class TestInvalidOverrides:
    @pytest.mark.parametrize("overrides", ["training.seed=1", Override("training.seed", 1)])
    def test_a_single_one_is_not_a_list(self, overrides: Any) -> None:
        with pytest.raises(ArgumentError, match=r"overrides=.*: give a list"):
            loading.load("tutorial", overrides)

    @pytest.mark.parametrize(
        "overrides",
        [[("training.seed", 1)], [3], [None], {1: 2}, [Override(1, 2)]],  # type: ignore[arg-type]
    )
    def test_other_types_are_explained(self, overrides: Any) -> None:
        with pytest.raises(ArgumentError, match=r"overrides=.*each is a text `section\.key=value`"):
            loading.load("tutorial", overrides)

    @pytest.mark.parametrize(
        ("value", "part"),
        [
            (object(), "is of type object, and values are"),
            ({"a": {1, 2}}, "is of type set"),
            ({1: 2}, "the key 1 is not text"),
            ([0] * 200_000, "more than 100,000 values"),
        ],
    )
    def test_values_that_yaml_does_not_have_are_explained(self, value: object, part: str) -> None:
        with pytest.raises(ConfigError) as caught:
            loading.load("tutorial", {"env.kwargs": value})
        assert str(caught.value).startswith("env.kwargs=")
        assert part in str(caught.value)

    def test_a_mapping_that_contains_itself_is_explained(self) -> None:
        kwargs: dict[str, Any] = {}
        kwargs["again"] = kwargs
        with pytest.raises(ConfigError, match="50 levels"):
            loading.load("tutorial", {"env.kwargs": kwargs})

    @pytest.mark.parametrize(
        ("override", "parts"),
        [
            ("optimizer.learning_rat=1", ["optimizer.learning_rat", "mean 'learning_rate'"]),
            ("gamma=0.9", ["'gamma'", "did you mean 'agent.gamma'", "Keys of the top level: name"]),
            ("a.b.c=1", ["'a'", "Keys of the top level"]),
            ("agent.loss=mse", ["agent.loss", "'mse'", "'squared' or 'huber'"]),
            ("agent.kind=rainbow", ["agent.kind", "'dqn', 'double_dqn', 'c51' or 'double_c51'"]),
            ("agent.n_step=0", ["agent.n_step", "greater than or equal to 1"]),
            ("agent={kind: c51, num_atoms: 10000}", ["agent.num_atoms", "equal to 1000"]),
            ("training.seed=abc", ["training.seed", "'abc'", "integer"]),
            ("training.seed=-1", ["training.seed", "-1", "greater than or equal to 0"]),
            ("training.batch_size=true", ["training.batch_size", "True", "integer"]),
            ("training.batch_size=0", ["training.batch_size", "0", "greater than or equal to 1"]),
            ("training.batch_size=1.5", ["training.batch_size", "1.5", "integer"]),
            ("optimizer.learning_rate=.nan", ["optimizer.learning_rate", "nan", "finite"]),
            ("optimizer.learning_rate='1e-4'", ["optimizer.learning_rate", "number"]),
            ("network.fc_layer_params=[8, -1]", ["network.fc_layer_params.1", "-1"]),
            ("network.conv_layer_params=[[8, 3]]", ["network.conv_layer_params.0"]),
            ("env=3", ["env: 3 was given", f"a section with keys ({KEYS_OF_ENV})"]),
            ("env=null", ["env: None was given", "a section with keys"]),
            ("env.kwargs=3", ["env.kwargs: 3 was given", "valid mapping"]),
            ("name=../escape", ["name", "../escape"]),
            ("exploration={policy: boltzmann, temperature: 1e-9}", ["temperature", "1e-09"]),
        ],
    )
    def test_a_mistake_names_the_override_the_value_and_what_is_allowed(
        self, override: str, parts: list[str]
    ) -> None:
        message = _message(override)
        assert message.startswith(f"{override}: ")
        assert "--" not in message
        for part in parts:
            assert part in message

    def test_a_mistake_in_a_mapping_is_called_key_and_value(self) -> None:
        with pytest.raises(ConfigError, match=r"^training\.seed=-1: training\.seed: -1 was given"):
            loading.load("tutorial", {"training": {"seed": -1}})
        with pytest.raises(ConfigError, match=r"^agent\.gama=0\.9: there is no key 'agent\.gama'"):
            loading.load("tutorial", {"agent": {"gama": 0.9}})

    def test_an_override_is_called_by_the_text_that_was_given(self) -> None:
        override = Override("training.seed", -4, "--seed -4")
        assert _message(override).startswith("--seed -4: training.seed: -4 was given")

    def test_secrets_are_not_repeated(self) -> None:
        with pytest.raises(ConfigError) as caught:
            loading.load("tutorial", {"trackin.tags": {"uri": "https://me:secret@host/"}})
        assert "secret" not in str(caught.value).partition(": there is")[0]


class TestOrigins:
    """Messages name the file or the overrides that must be changed, and no others."""

    @pytest.mark.parametrize(
        "overrides",
        [
            ["env.id=Acrobot-v1"],
            {"env.id": "Acrobot-v1"},
            {"env": {"id": "Acrobot-v1"}},
            [Override("env.id", "Acrobot-v1", "env.id=Acrobot-v1")],
        ],
    )
    def test_a_value_in_the_file_in_place_of_a_section(self, overrides: Overrides) -> None:
        assert _message_of_text("env: CartPole-v1", overrides) == (
            "env.id=Acrobot-v1: 'env' in my.yaml is given as the value 'CartPole-v1', while it is "
            f"a section with keys ({KEYS_OF_ENV})"
        )

    def test_a_value_among_the_overrides_in_place_of_a_section(self) -> None:
        for overrides in (
            ["training=5", "training.seed=3"],
            {"training": 5, "training.seed": 3},
            [Override("training", 5), "training.seed=3"],
        ):
            message = _message_of_text("training: {seed: 1}", overrides)
            assert message.startswith(
                "training.seed=3: 'training' in training=5 is given as the value 5, while it is a "
                "section with keys (loop, num_iterations, "
            )

    def test_a_key_below_a_value_that_is_not_a_section(self) -> None:
        assert _message_of_text("env: {id: X-v0}", ["env.id.x=3"]) == (
            "env.id.x=3: 'env.id' in my.yaml is given as the value 'X-v0', which has no keys below "
            "it"
        )
        message = _message_of_text("env: {id: X-v0}", ["env.id=Y-v0", "env.id.x=3"])
        assert "'env.id' in env.id=Y-v0 is given as the value 'Y-v0'" in message
        message = _message_of_text("env: {wrappers: [a.B]}", ["env.wrappers.0=a.C"])
        assert "'env.wrappers' in my.yaml is given as the value ['a.B']" in message
        assert "'other' in my.yaml" in _message_of_text("other: 3", ["other.x=1"])

    def test_a_section_that_is_replaced_hides_the_value_of_the_file(self) -> None:
        config = loading.load_text("env: CartPole-v1", "my.yaml", ["env={id: Acrobot-v1}"])
        assert config.env.id == "Acrobot-v1"
        config = loading.load_text("env: null", "my.yaml", ["env.id=Acrobot-v1"])
        assert config.env.id == "Acrobot-v1"

    def test_a_value_of_the_file_names_the_file(self) -> None:
        message = _message_of_text("agent: {gamma: 2}", ["agent.n_step=3", "training.seed=1"])
        assert message.startswith("my.yaml: agent.gamma: 2 was given")

    def test_a_value_that_was_overridden_is_not_named(self) -> None:
        message = _message_of_text("agent: {gamma: 3}", ["agent.gamma=4", "agent.gamma=2"])
        assert message.startswith("agent.gamma=2: agent.gamma: 2 was given")
        message = _message_of_text("", ["agent={gamma: 3}", "agent.gamma=2"])
        assert message.startswith("agent.gamma=2: ")
        message = _message_of_text("", ["agent.gamma=2", "agent={gamma: 3}"])
        assert message.startswith("agent={gamma: 3}: ")

    def test_an_override_of_the_section_is_named_for_its_keys(self) -> None:
        message = _message_of_text("", ["agent={gamma: 3}", "agent.n_step=2"])
        assert message.startswith("agent={gamma: 3}: agent.gamma: 3 was given")

    def test_a_value_with_several_origins_names_them_all(self) -> None:
        text = "env: {kwargs: {render_mode: human}}"
        message = _message_of_text(text, ["env.kwargs.size=3", "env.num_envs=2"])
        assert message.startswith("my.yaml, env.kwargs.size=3: env.kwargs: ")
        overrides = ["env.kwargs={render_mode: human}", "env.kwargs.size=3"]
        message = _message_of_text("env: {kwargs: {a: 1}}", overrides)
        assert message.startswith(f"{overrides[0]}, {overrides[1]}: env.kwargs: ")
        # The file says nothing about this key.
        message = _message_of_text("agent: {gamma: 1}", ["env.kwargs.render_mode=human"])
        assert message.startswith("env.kwargs.render_mode=human: env.kwargs: ")

    def test_an_unknown_section_names_the_overrides_that_set_it(self) -> None:
        message = _message_of_text("agent: {gamma: 1}", ["agnt.gamma=1", "agnt.n_step=2"])
        assert message.startswith("agnt.gamma=1, agnt.n_step=2: there is no key 'agnt'")
        message = _message_of_text("agnt: {gamma: 1}", ["agnt.n_step=2"])
        assert message.startswith("my.yaml, agnt.n_step=2: there is no key 'agnt'")

    def test_a_combination_names_the_source_and_the_overrides_of_its_keys(self) -> None:
        overrides = [
            "training.seed=3",
            "training.batch_size=64",
            "replay.kind=prioritized",
            "replay.replay_buffer_max_length=10",
            "agent.gamma=0.5",
        ]
        assert _message_of_text("", overrides) == (
            "my.yaml, training.batch_size=64, replay.replay_buffer_max_length=10: "
            "replay.replay_buffer_max_length=10 is smaller than training.batch_size=64: a batch "
            "must fit into the replay"
        )

    def test_a_combination_names_an_override_of_the_whole_section(self) -> None:
        overrides = ["training={batch_size: 64}", "training.seed=1", "replay.beta_steps=null"]
        text = "replay: {replay_buffer_max_length: 10}"
        message = _message_of_text(text, overrides)
        assert message.startswith("my.yaml, training={batch_size: 64}: replay.replay_buffer_max_")

    def test_a_combination_in_the_file_names_the_file_alone(self) -> None:
        text = "agent: {kind: c51, v_min: 2, v_max: 1}"
        message = _message_of_text(text, ["agent.gamma=0.5", "training.seed=1"])
        assert message.startswith("my.yaml: agent: v_min=2 is not below v_max=1")

    def test_a_combination_within_a_section_names_the_overrides_of_its_keys(self) -> None:
        text = "agent: {kind: c51, v_min: 2}"
        message = _message_of_text(text, {"agent": {"gamma": 0.5, "v_max": 1, "n_step": 2}})
        assert message.startswith("my.yaml, agent.v_max=1: agent: v_min=2 is not below v_max=1")

    def test_an_error_without_known_keys_names_the_overrides_within_its_section(self) -> None:
        draft = loading._Draft({}, "my.yaml")
        for text in ("agent.gamma=1", "training.seed=1", "agent={n_step: 2}", "agent.v_min=1"):
            draft.apply(parse_override(text))
        detail: Any = {
            "loc": ("agent",),
            "type": "value_error",
            "msg": "Value error, No.",
            "ctx": {},
        }
        assert loading._explain(detail, draft) == (
            "my.yaml, agent={n_step: 2}, agent.v_min=1: agent: no."
        )
        assert loading._explain({**detail, "loc": ()}, draft) == (
            "my.yaml, training.seed=1, agent={n_step: 2}, agent.v_min=1: no."
        )


class TestKeys:
    def test_keys_are_listed_with_their_sections(self) -> None:
        keys = loading.config_keys()
        assert {"name", "agent", "agent.gamma", "search", "tracking.tags"} <= set(keys)
        assert len(set(keys)) == len(keys)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("agent.gamma", 1.0),
            ("network.fc_layer_params", [100, 50]),
            ("agent.v_min", None),
            ("env.kwargs.size", 3),
            ("env.kwargs.other", None),
            ("agent.gamma.x", None),
            ("nothing", None),
        ],
    )
    def test_values_by_key(self, key: str, value: object) -> None:
        config = loading.load("tutorial", {"env.kwargs": {"size": 3}})
        assert loading.value_at(config, key) == value

    @pytest.mark.parametrize(
        ("key", "expected"),
        [
            ("agent.loss", True),
            ("agent.num_atoms", False),
            ("agent.gamma", True),
            ("optimizer.weight_decay", False),
            ("exploration.epsilon", True),
            ("exploration.decay_steps", False),
            ("replay.alpha", False),
            ("name", True),
            ("env.kwargs.size", True),
        ],
    )
    def test_keys_that_apply(self, key: str, expected: bool) -> None:
        assert loading.applies(loading.load("tutorial"), key) is expected

    def test_keys_apply_with_other_choices(self) -> None:
        overrides = ["agent.kind=c51", "optimizer.kind=adamw", "replay.kind=prioritized"]
        config = loading.load("tutorial", overrides)
        for key in ("agent.num_atoms", "optimizer.weight_decay", "replay.alpha"):
            assert loading.applies(config, key)
        assert not loading.applies(config, "agent.loss")

    def test_suggestions(self) -> None:
        assert loading.suggestion("gama", ["gamma", "n_step"]) == " (did you mean 'gamma'?)"
        assert loading.suggestion("xyz", ["gamma", "n_step"]) == ""
        assert loading.suggestion("xyz", []) == ""


def test_loading_imports_no_large_library() -> None:
    code = (
        "import sys, dqnkit.config.loading as loading; loading.load('cartpole'); "
        "print({'tensorflow', 'mlflow', 'gymnasium', 'numpy', 'optuna'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "set()"
