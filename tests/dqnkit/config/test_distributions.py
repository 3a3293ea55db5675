from __future__ import annotations

import pytest

from dqnkit.config import loading
from dqnkit.config.distributions import Choices, FloatRange, LayerSizes
from dqnkit.errors import ConfigError

RATE = "{type: float, low: 1e-5, high: 1e-2, log: true}"


def test_a_key_may_be_dotted_or_nested() -> None:
    dotted = loading.load_text(f"search: {{optimizer.learning_rate: {RATE}}}", "text")
    nested = loading.load_text(f"search: {{optimizer: {{learning_rate: {RATE}}}}}", "text")
    assert dotted.search == nested.search
    assert dotted.search == {
        "optimizer.learning_rate": FloatRange(type="float", low=1e-5, high=1e-2, log=True)
    }


def test_an_assignment_changes_one_number_of_a_distribution() -> None:
    text = f"search: {{optimizer.learning_rate: {RATE}}}"
    config = loading.load_text(text, "text", ["search.optimizer.learning_rate.high=1e-1"])
    (distribution,) = config.search.values()
    assert isinstance(distribution, FloatRange)
    assert (distribution.low, distribution.high) == (1e-5, 0.1)


def test_what_is_dumped_is_read_again() -> None:
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


def test_the_space_decides_no_run() -> None:
    config = loading.load_text(f"search: {{optimizer.learning_rate: {RATE}}}", "text")
    assert not [key for key in config.flat() if key.startswith("search")]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("{type: flaot, low: 1, high: 2}", ["search.a.b", "float, int, categorical, layers"]),
        ("{low: 1, high: 2}", ["search.a.b", "needs a type of"]),
        ("{type: float, low: 3, high: 1}", ["search.a.b", "low=3.0", "high=1.0", "swap"]),
        ("{type: float, low: 0, high: 1, log: true}", ["log=true", "low=0.0"]),
        ("{type: float, low: 1, high: 2, log: true, step: 1}", ["log and step"]),
        ("{type: int, low: 1, hi: 2}", ["search.a.b.hi", "did you mean 'high'", "step"]),
        ("{type: int, low: 1.5, high: 2}", ["search.a.b.low", "1.5"]),
        ("{type: layers, min_layers: 3, max_layers: 2}", ["min_layers=3", "max_layers=2"]),
        ("{type: layers, units: 3}", ["search.a.b.units", "max_layers"]),
        ("{type: categorical, choices: []}", ["search.a.b.choices"]),
        ("{type: categorical, choices: [1, 1]}", ["1 stands there twice"]),
        ("17", ["search.a.b", "17"]),
    ],
)
def test_a_mistake_names_key_and_what_is_allowed(value: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loading.load_text(f"search: {{a.b: {value}}}", "my.yaml")
    message = str(caught.value)
    for part in ["my.yaml", *parts]:
        assert part in message
    with pytest.raises(ConfigError, match="--set search"):
        loading.default_config("x", [f"search.a.b={value}"])
