from __future__ import annotations

from typing import Any

import pytest

from dqnkit.config import loading
from dqnkit.config.distributions import KINDS, Choices, FloatRange, IntRange, LayerSizes, same
from dqnkit.config.sections import Config
from dqnkit.errors import ConfigError

RATE = "{type: float, low: 1e-5, high: 1e-2, log: true}"
RATE_IN_FILE = f"search: {{optimizer.learning_rate: {RATE}}}"


def _search(text: str) -> dict[str, Any]:
    return loading.load_text(f"search: {text}", "text").search


def test_a_key_is_dotted_or_nested() -> None:
    dotted = _search(f"{{optimizer.learning_rate: {RATE}}}")
    nested = _search(f"{{optimizer: {{learning_rate: {RATE}}}}}")
    assert dotted == nested
    assert dotted == {
        "optimizer.learning_rate": FloatRange(type="float", low=1e-5, high=1e-2, log=True)
    }


def test_keys_below_a_section_can_be_nested_or_dotted_in_turn() -> None:
    choices = "{type: categorical, choices: [true, false]}"
    nested = _search(f"{{env: {{kwargs: {{is_slippery: {choices}}}}}}}")
    assert list(nested) == ["env.kwargs.is_slippery"]
    assert _search(f"{{env: {{kwargs.is_slippery: {choices}}}}}") == nested


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("{type: float, low: 0, high: 1}", FloatRange(type="float", low=0.0, high=1.0)),
        (
            "{type: float, low: 0, high: 1, step: 0.25}",
            FloatRange(type="float", low=0.0, high=1.0, step=0.25),
        ),
        ("{type: float, low: 2, high: 2}", FloatRange(type="float", low=2.0, high=2.0)),
        ("{type: int, low: 1e3, high: 1e5}", IntRange(type="int", low=1_000, high=100_000)),
        (
            "{type: int, low: 1, high: 64, log: true}",
            IntRange(type="int", low=1, high=64, log=True),
        ),
        (
            "{type: categorical, choices: [1, true, '1', null, [1]]}",
            Choices(type="categorical", choices=(1, True, "1", None, [1])),
        ),
        (
            "{type: layers}",
            LayerSizes(
                type="layers", min_layers=1, max_layers=3, low=16, high=256, log=True, step=None
            ),
        ),
        (
            "{type: layers, min_layers: 0, low: 8, high: 64, log: false, step: 8}",
            LayerSizes(type="layers", min_layers=0, low=8, high=64, log=False, step=8),
        ),
    ],
)
def test_each_type_of_distribution(text: str, distribution: object) -> None:
    assert _search(f"{{a.b: {text}}}") == {"a.b": distribution}
    assert type(distribution) in KINDS.values()


def test_an_override_changes_one_key_of_a_distribution() -> None:
    override = "search.optimizer.learning_rate.high=1e-1"
    config = loading.load_text(RATE_IN_FILE, "text", [override])
    (distribution,) = config.search.values()
    assert isinstance(distribution, FloatRange)
    assert (distribution.low, distribution.high, distribution.log) == (1e-5, 0.1, True)


def test_an_override_replaces_a_distribution() -> None:
    override = "search.optimizer.learning_rate={type: categorical, choices: [0.1, 0.2]}"
    config = loading.load_text(RATE_IN_FILE, "text", [override])
    assert config.search == {
        "optimizer.learning_rate": Choices(type="categorical", choices=(0.1, 0.2))
    }


def test_an_override_adds_a_distribution() -> None:
    override = "search.agent.gamma={type: float, low: 0.9, high: 1}"
    config = loading.load_text(RATE_IN_FILE, "text", [override])
    assert list(config.search) == ["optimizer.learning_rate", "agent.gamma"]


def test_an_override_replaces_the_whole_space() -> None:
    space = {"agent.gamma": {"type": "float", "low": 0.9, "high": 1.0}}
    config = loading.load_text(RATE_IN_FILE, "text", {"search": space})
    assert list(config.search) == ["agent.gamma"]
    assert loading.load_text(RATE_IN_FILE, "text", ["search={}"]).search == {}


def test_a_dumped_space_is_loaded_again() -> None:
    config = loading.load_text(
        "search:\n"
        f"  optimizer.learning_rate: {RATE}\n"
        "  network.fc_layer_params: {type: layers, max_layers: 2, low: 32}\n"
        "  training.batch_size: {type: int, low: 32, high: 64, step: 8}\n"
        "  agent.loss: {type: categorical, choices: [squared, huber]}\n"
        "  env.wrappers: {type: categorical, choices: [[], [gymnasium.wrappers.ClipReward]]}\n",
        "text",
    )
    assert loading.load_text(loading.dump(config), "again") == config
    assert isinstance(config.search["network.fc_layer_params"], LayerSizes)
    assert isinstance(config.search["env.wrappers"], Choices)


def test_the_search_space_is_not_part_of_the_logged_parameters() -> None:
    config = loading.load_text(RATE_IN_FILE, "text")
    assert not [key for key in config.flat() if key.startswith("search")]
    assert config.flat() == Config().flat()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        ("a", "a", True),
        ([1], [1], True),
        (None, None, True),
        (None, False, False),
        (1, "1", False),
    ],
)
def test_booleans_equal_booleans_only(first: object, second: object, expected: bool) -> None:
    assert same(first, second) is expected
    assert same(second, first) is expected


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("{type: flaot, low: 1, high: 2}", ["search.a.b", "float, int, categorical, layers"]),
        ("{low: 1, high: 2}", ["search.a.b", "needs a type of"]),
        ("{type: float, low: 3, high: 1}", ["search.a.b", "low=3.0", "high=1.0", "swap"]),
        ("{type: float, low: 0, high: 1, log: true}", ["log=true", "low=0.0"]),
        ("{type: float, low: 1, high: 2, log: true, step: 1}", ["log and step", "remove one"]),
        ("{type: float, low: 1, high: 2, step: 0}", ["search.a.b.step", "greater than 0"]),
        ("{type: float, low: 1}", ["search.a.b.high is required"]),
        ("{type: int, low: 1, hi: 2}", ["search.a.b.hi", "did you mean 'high'", "step"]),
        ("{type: int, low: 1.5, high: 2}", ["search.a.b.low", "1.5"]),
        ("{type: int, low: 2, high: 1}", ["low=2", "high=1", "swap"]),
        ("{type: int, low: 0, high: 2, log: true}", ["log=true", "low=0"]),
        ("{type: layers, min_layers: 3, max_layers: 2}", ["min_layers=3", "max_layers=2"]),
        ("{type: layers, low: 64, high: 32}", ["low=64", "high=32"]),
        ("{type: layers, step: 8}", ["log and step"]),
        ("{type: layers, max_layers: 33}", ["search.a.b.max_layers", "33"]),
        ("{type: layers, units: 3}", ["search.a.b.units", "max_layers"]),
        ("{type: categorical, choices: []}", ["search.a.b.choices", "at least 1 item"]),
        ("{type: categorical, choices: [1, 1]}", ["choices: 1 is given twice"]),
        ("{type: categorical, choices: [[1], [1]]}", ["choices: [1] is given twice"]),
        ("{type: categorical, choices: 3}", ["search.a.b.choices", "3", "valid list"]),
        ("17", ["search.a.b", "17", "valid mapping"]),
    ],
)
def test_a_mistake_names_the_key_and_what_is_allowed(value: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loading.load_text(f"search: {{a.b: {value}}}", "my.yaml")
    message = str(caught.value)
    for part in ["my.yaml", *parts]:
        assert part in message
    with pytest.raises(ConfigError) as caught:
        loading.default_config("x", [f"search.a.b={value}"])
    message = str(caught.value)
    for part in [f"search.a.b={value}: ", *parts]:
        assert part in message


def test_a_range_from_a_file_and_an_override_names_both() -> None:
    overrides = ["search.optimizer.learning_rate.high=1e-6", "training.seed=3", "agent.gamma=0.5"]
    with pytest.raises(ConfigError) as caught:
        loading.load_text(RATE_IN_FILE, "my.yaml", overrides)
    assert str(caught.value) == (
        "my.yaml, search.optimizer.learning_rate.high=1e-6: search.optimizer.learning_rate: "
        "low=1e-05 is greater than high=1e-06: swap them"
    )


def test_an_override_of_another_key_of_the_distribution_is_not_named() -> None:
    overrides = [
        "search.agent.gamma={type: float, low: 1, high: 1}",
        "search.agent.gamma.high=0.5",
        "search.agent.gamma.step=0.1",
        "search.agent.n_step={type: int, low: 1, high: 3}",
    ]
    with pytest.raises(ConfigError) as caught:
        loading.load_text("", "my.yaml", overrides)
    assert str(caught.value) == (
        "my.yaml, search.agent.gamma={type: float, low: 1, high: 1}, search.agent.gamma.high=0.5: "
        "search.agent.gamma: low=1.0 is greater than high=0.5: swap them"
    )
