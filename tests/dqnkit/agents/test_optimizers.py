from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents import optimizers
from dqnkit.config.sections import Config

Small = Callable[..., Config]
GRADIENTS = np.float32([[0.5, -2.0], [0.25, 4.0], [-1.0, 1.0]])


def _steps(config: Config, jit_compile: bool) -> np.ndarray:
    """Return the values of a variable that starts at (1, -3), after a step for each gradient."""
    optimizer = optimizers.make_optimizer(config)
    variable = tf.Variable([1.0, -3.0])
    optimizer.build([variable])

    @tf.function(jit_compile=jit_compile)
    def step(gradient: tf.Tensor) -> None:
        optimizer.apply_gradients([(gradient, variable)])

    for gradient in GRADIENTS:
        step(tf.constant(gradient))
    values: np.ndarray = variable.numpy()
    return values


def _adam(rates: list[float], decay: float = 0.0) -> np.ndarray:
    """Algorithm 1 of Kingma and Ba (2015), with the decay of Loshchilov and Hutter (2019)."""
    values, mean, square = np.array([1.0, -3.0]), np.zeros(2), np.zeros(2)
    for t, (gradient, rate) in enumerate(zip(GRADIENTS, rates, strict=True), start=1):
        values -= rate * decay * values
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        values -= rate * (mean / (1 - 0.8**t)) / (np.sqrt(square / (1 - 0.9**t)) + 1e-3)
    return values


def _rmsprop(centered: bool) -> np.ndarray:
    values, mean, square, velocity = np.array([1.0, -3.0]), np.zeros(2), np.zeros(2), np.zeros(2)
    for gradient in GRADIENTS:
        square = 0.8 * square + 0.2 * gradient**2
        mean = 0.8 * mean + 0.2 * gradient
        spread = square - mean**2 if centered else square
        velocity = 0.5 * velocity + 0.1 * gradient / np.sqrt(spread + 1e-3)
        values -= velocity
    return values


ADAM = ("optimizer.beta_1=0.8", "optimizer.beta_2=0.9")
RMSPROP = ("optimizer.kind=rmsprop", "optimizer.rho=0.8", "optimizer.momentum=0.5")


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    ("assignments", "expected", "tolerance"),
    [
        (ADAM, _adam([0.1] * 3), 2e-3),  # Keras adds epsilon before the bias correction
        (
            (*ADAM, "optimizer.kind=adamw", "optimizer.weight_decay=0.5"),
            _adam([0.1] * 3, decay=0.5),
            2e-3,
        ),
        ((*RMSPROP, "optimizer.centered=false"), _rmsprop(centered=False), 1e-5),
        ((*RMSPROP, "optimizer.centered=true"), _rmsprop(centered=True), 1e-5),
    ],
)
def test_steps_equal_those_of_the_papers(
    small: Small,
    assignments: tuple[str, ...],
    expected: np.ndarray,
    tolerance: float,
    jit_compile: bool,
) -> None:
    config = small("optimizer.learning_rate=0.1", "optimizer.epsilon=1e-3", *assignments)
    np.testing.assert_allclose(_steps(config, jit_compile), expected, rtol=tolerance)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.75, 0.5, 0.0]),
        ("cosine", [1.0, (1 + np.cos(np.pi / 4)) / 2, 0.5, 0.0]),
    ],
)
def test_the_learning_rate_follows_its_schedule(
    small: Small, schedule: str, shares: list[float]
) -> None:
    assignments = [] if schedule == "constant" else ["optimizer.final_learning_rate=0.02"]
    config = small(f"optimizer.schedule={schedule}", "optimizer.learning_rate=0.1", *assignments)
    rate = optimizers.learning_rate(config.optimizer, updates=100)
    values = [float(rate(tf.constant(n))) if callable(rate) else rate for n in (0, 25, 50, 100)]
    np.testing.assert_allclose(values, [0.02 + 0.08 * share for share in shares], rtol=1e-5)
    if callable(rate):
        assert float(rate(tf.constant(1_000))) == pytest.approx(0.02)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_schedule_lasts_the_whole_training_or_decay_updates(
    small: Small, jit_compile: bool
) -> None:
    schedule = [*ADAM, "optimizer.learning_rate=0.1", "optimizer.schedule=linear"]
    schedule += ["optimizer.epsilon=1e-3"]
    rates = [0.1, 0.1 * 2 / 3, 0.1 / 3]
    for length in (
        ["training.num_iterations=3"],
        ["training.num_iterations=60", "optimizer.decay_updates=3"],
    ):
        stepped = _steps(small(*schedule, *length), jit_compile)
        np.testing.assert_allclose(stepped, _adam(rates), rtol=2e-3)


def test_names_of_variables_are_unique_and_without_the_numbers_of_a_process() -> None:
    names = ["iteration:0", "m/kernel:0", "m/kernel_1:0", "v_3/dense_12/kernel:0", "beta_1_power:0"]
    variables = [SimpleNamespace(name=name) for name in names]
    named = optimizers.named_variables(SimpleNamespace(variables=variables))
    assert list(named) == ["iteration", "m/kernel", "m/kernel_1", "v/dense/kernel", "beta_1_power"]
    assert list(named.values()) == variables
