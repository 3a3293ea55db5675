from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqnkit._system.tensorflow import categorical_dqn_agent, tf
from dqnkit._system.tensorflow import time_step as ts
from dqnkit.agents.learner import DqnLearner
from dqnkit.config.sections import Config
from dqnkit.envs.transitions import Transitions
from dqnkit.errors import ConfigError
from tests.specs import vector_spec

Small = Callable[..., Config]


def _linear(small: Small, *assignments: str) -> DqnLearner:
    """Q(o, a) = o * k[a] + b[a] with online k = (1, 2), b = (0, 1) and target k = (3, 1), b = 0."""
    config = small("network.fc_layer_params=[]", "training.batch_size=4", *assignments)
    learner = DqnLearner(config, vector_spec(1, num_actions=2), weights_key=0)
    values = _values(learner)
    values |= {
        "online/parameters": np.array([1.0, 2.0, 0.0, 1.0], np.float32),
        "target/parameters": np.array([3.0, 1.0, 0.0, 0.0], np.float32),
    }
    learner.restore(values)
    return learner


def _values(learner: DqnLearner) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in learner.variables().items()}


def _parameters(learner: DqnLearner) -> tuple[np.ndarray, np.ndarray]:
    values = _values(learner)
    return values["online/parameters"], values["target/parameters"]


BATCH = Transitions(
    observation=tf.constant([[1.0], [1.0], [2.0], [-1.0]]),
    action=tf.constant([0, 1, 1, 0], tf.int32),
    reward=tf.constant([1.0, 1.0, 0.5, 0.0]),
    discount=tf.constant([1.0, 0.0, 1.0, 1.0]),  # the second is terminal, the third truncated
    next_observation=tf.constant([[2.0], [2.0], [-2.0], [0.0]]),
)
# With gamma 0.5:
#   Q(o, a)        = 1*1=1, 2*1+1=3, 2*2+1=5, 1*-1=-1
#   max target Q   = max(6, 2)=6, (6), max(-6, -2)=-2, 0
#   targets        = 1+.5*6=4, 1 (terminal: the reward alone), .5+.5*-2=-.5 (bootstraps), 0
#   td errors      = 3, -2, -5.5, 1
SQUARED = (9.0 + 4.0 + 30.25 + 1.0) / 4
HUBER = (2.5 + 1.5 + 5.0 + 0.5) / 4  # |e| - 1/2 beyond 1, e**2 / 2 within

MODES: dict[str, Callable[[Any], Any]] = {
    "eager": lambda f: f,
    "graph": lambda f: tf.function(f, autograph=False),
    "xla": lambda f: tf.function(f, autograph=False, jit_compile=True),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("loss", "expected"), [("squared", SQUARED), ("huber", HUBER)])
def test_the_loss_is_the_one_computed_by_hand(
    small: Small, mode: str, loss: str, expected: float
) -> None:
    learner = _linear(small, "agent.gamma=0.5", f"agent.loss={loss}")
    assert float(MODES[mode](learner.update)(BATCH).loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_double_q_learning_selects_actions_by_the_online_network(small: Small, mode: str) -> None:
    learner = _linear(small, "agent.gamma=0.5", "agent.kind=double_dqn")
    # With gamma 0.5:
    #   online next Q  = (2, 5), (2, 5), (-2, -3), (0, 1): actions 1, 1, 0, 1
    #   their targets  = 2, (2), -6, 0
    #   targets        = 1+.5*2=2, 1 (terminal), .5+.5*-6=-2.5, 0
    #   td errors      = 1, -2, -7.5, 1
    info = MODES[mode](learner.update)(BATCH)
    np.testing.assert_allclose(info.td_errors, [1.0, -2.0, -7.5, 1.0], rtol=1e-6)
    assert float(info.loss) == pytest.approx((1 + 4 + 56.25 + 1) / 4, rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_importance_weights_scale_each_loss(small: Small, mode: str) -> None:
    learner = _linear(small, "agent.gamma=0.5")
    weights = tf.constant([1.0, 0.5, 0.0, 0.25])
    info = MODES[mode](learner.update)(BATCH, weights)
    np.testing.assert_allclose(info.td_errors, [3.0, -2.0, -5.5, 1.0], rtol=1e-6)  # unweighted
    assert float(info.loss) == pytest.approx((9.0 + 2.0 + 0.0 + 0.25) / 4, rel=1e-6)
    # Gradient of the weighted loss: k[0]: (-6*1*1 + -2*-1*.25) / 4,  k[1]: (4*1*.5) / 4,
    #                       b[0]: (-6 - 2*.25) / 4,          b[1]: (4*.5) / 4
    moments = learner.variables()["optimizer/m/parameters"].numpy()
    np.testing.assert_allclose(moments, 0.1 * np.array([-1.375, 0.5, -1.625, 0.5]), rtol=1e-5)


def _categorical(small: Small, kind: str) -> DqnLearner:
    """Make a learner with support 0, 1, 2 and logits that do not depend on the observation.

    The online network has logits ln(1, 1, 2) for action 0 and ln(1, 2, 1) for action 1; the target
    network has ln(2, 1, 1) and ln(1, 1, 6).
    """
    config = small(
        *("network.fc_layer_params=[]", "agent.gamma=0.5", "training.batch_size=4"),
        *(f"agent.kind={kind}", "agent.num_atoms=3", "agent.v_min=0", "agent.v_max=2"),
    )
    learner = DqnLearner(config, vector_spec(1, num_actions=2), weights_key=0)
    values = _values(learner)
    for name, exponentials in (("online", [1, 1, 2, 1, 2, 1]), ("target", [2, 1, 1, 1, 1, 6])):
        parameters = np.append(np.zeros(6), np.log(exponentials))
        values[f"{name}/parameters"] = parameters.astype(np.float32)
    learner.restore(values)
    return learner


C51_BATCH = BATCH._replace(
    reward=tf.constant([1.0, 1.5, 9.0, 0.0]),
    discount=tf.constant([1.0, 0.0, 1.0, 1.0]),
)
# Target network: action 0 has probabilities (1/2, 1/4, 1/4) and mean 3/4, action 1 has
# (1/8, 1/8, 6/8) and mean 13/8. Online network: action 0 has (1/4, 1/4, 1/2) and mean 5/4, action 1
# has (1/4, 1/2, 1/4) and mean 1. So c51 selects action 1, and double_c51 action 0; both take the
# distribution of the target network. Its returns 0, 1, 2 are halved, and the reward is added:
#   row 0: 1, 1.5, 2, the second one half way between two atoms
#   row 1: terminal, all at 1.5;  row 2: all clipped to the upper end;  row 3: 0, 0.5, 1
C51_TARGETS = {
    "c51": [[0, 3 / 16, 13 / 16], [0, 0.5, 0.5], [0, 0, 1], [3 / 16, 13 / 16, 0]],
    "double_c51": [[0, 5 / 8, 3 / 8], [0, 0.5, 0.5], [0, 0, 1], [5 / 8, 3 / 8, 0]],
}
C51_LOG_PROBABILITIES = np.log(
    [[0.25, 0.25, 0.5], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["c51", "double_c51"])
def test_the_categorical_loss_is_the_one_computed_by_hand(
    small: Small, kind: str, mode: str
) -> None:
    targets = np.array(C51_TARGETS[kind])
    losses = -(targets * C51_LOG_PROBABILITIES).sum(axis=1)
    entropies = -(targets * np.log(np.where(targets > 0, targets, 1.0))).sum(axis=1)
    weights = np.array([1.0, 0.5, 0.25, 0.0])
    for given in (None, tf.constant(weights, tf.float32)):
        info = MODES[mode](_categorical(small, kind).update)(C51_BATCH, given)
        expected = (losses * (1.0 if given is None else weights)).mean()
        assert float(info.loss) == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(info.td_errors, losses - entropies, rtol=1e-4, atol=1e-6)


def test_the_categorical_target_equals_that_of_tf_agents(small: Small) -> None:
    learner = _categorical(small, "c51")
    agent = learner.agent
    next_step = ts.TimeStep(
        tf.fill([4], ts.StepType.MID),
        C51_BATCH.reward,
        C51_BATCH.discount,
        C51_BATCH.next_observation,
    )
    distribution = agent._next_q_distribution(next_step)
    support = C51_BATCH.reward[:, None] + 0.5 * C51_BATCH.discount[:, None] * agent._support
    theirs = categorical_dqn_agent.project_distribution(support, distribution, agent._support)
    np.testing.assert_allclose(theirs, C51_TARGETS["c51"], atol=1e-6)
    np.testing.assert_allclose(agent._target_distribution(next_step, 0.5), theirs, atol=1e-6)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_the_step_is_that_of_adam_for_a_gradient_computed_by_hand(small: Small, mode: str) -> None:
    learner = _linear(small, "agent.gamma=0.5", "agent.loss=squared", "optimizer.learning_rate=0.1")
    MODES[mode](learner.update)(BATCH)
    # d loss / d k[a] = mean of -2 * td_error * o over the rows with action a:
    #   k[0]: (-2*3*1 + -2*1*-1) / 4 = -1,  k[1]: (-2*-2*1 + -2*-5.5*2) / 4 = 6.5
    #   b[0]: (-6 - 2) / 4 = -2,            b[1]: (4 + 11) / 4 = 3.75
    # Adam's first step is the learning rate against the gradient's sign (up to its epsilon).
    np.testing.assert_allclose(learner.policy_weights(), [1.1, 1.9, 0.1, 0.9], rtol=1e-5)
    moments = learner.variables()["optimizer/m/parameters"].numpy()
    np.testing.assert_allclose(moments, 0.1 * np.array([-1.0, 6.5, -2.0, 3.75]), rtol=1e-5)


def test_gradient_clipping_bounds_the_norm_of_the_whole_gradient(small: Small) -> None:
    learner = _linear(small, "agent.gamma=0.5", "agent.loss=squared", "agent.gradient_clipping=0.5")
    learner.update(BATCH)
    moments = learner.variables()["optimizer/m/parameters"].numpy()
    assert np.linalg.norm(moments) == pytest.approx(0.1 * 0.5, rel=1e-5)


def test_the_target_network_is_updated_at_its_period(small: Small) -> None:
    learner = _linear(small, "agent.target_update_period=3")
    update = tf.function(learner.update, jit_compile=True, autograph=False)
    for updates in range(1, 7):
        update(BATCH)
        online, target = _parameters(learner)
        assert np.array_equal(online, target) == (updates % 3 == 0)


def test_the_target_network_is_updated_by_its_tau(small: Small) -> None:
    learner = _linear(small, "agent.target_update_tau=0.25")
    learner.update(BATCH)
    online, target = _parameters(learner)
    np.testing.assert_allclose(
        target, 0.25 * online + 0.75 * np.array([3.0, 1.0, 0.0, 0.0]), rtol=1e-6
    )


def test_initial_weights_are_those_of_the_tutorial_and_depend_on_the_key(
    small: Small,
) -> None:
    config = small("network.fc_layer_params=[400, 300]")
    spec = vector_spec(4, num_actions=2)
    weights = DqnLearner(config, spec, weights_key=1).policy_weights()
    again = DqnLearner(config, spec, weights_key=1).policy_weights()
    other = DqnLearner(config, spec, weights_key=2).policy_weights()
    np.testing.assert_array_equal(weights, again)
    assert not np.array_equal(weights[:1600], other[:1600])
    sizes = [4 * 400, 400, 400 * 300, 300, 300 * 2, 2]
    _, first_bias, hidden, _, output, output_bias = np.split(weights, np.cumsum(sizes)[:-1])
    np.testing.assert_array_equal(first_bias, 0.0)
    # He: variance 2 / fan_in, here with fan_in 400, from 120,000 draws.
    assert hidden.std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
    assert 0.029 < np.abs(output).max() <= 0.03
    np.testing.assert_array_equal(output_bias, np.float32([-0.2, -0.2]))


OPTIMIZERS = {
    "adam": (["optimizer.kind=adam"], ["iteration", "m/parameters", "v/parameters"]),
    "adamw": (["optimizer.kind=adamw"], ["iteration", "m/parameters", "v/parameters"]),
    "rmsprop": (["optimizer.kind=rmsprop"], ["iteration", "velocity/parameters"]),
    "rmsprop with all slots": (
        ["optimizer.kind=rmsprop", "optimizer.centered=true", "optimizer.momentum=0.5"],
        [
            "iteration",
            "velocity/parameters",
            "momentum/parameters",
            "average_gradient/parameters",
        ],
    ),
}
"""Assignments of each optimizer, and the names of its variables."""


def _names(optimizer: list[str]) -> list[str]:
    return [
        "online/parameters",
        "target/parameters",
        *(f"optimizer/{name}" for name in optimizer),
        "counter/train_step",
        "counter/target_update",
    ]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_names_do_not_depend_on_earlier_learners_of_the_process(small: Small, kind: str) -> None:
    assignments, expected = OPTIMIZERS[kind]
    for earlier, _ in OPTIMIZERS.values():
        _linear(small, *earlier)
    for _ in range(2):
        assert list(_linear(small, *assignments).variables()) == _names(expected)


def test_names_are_the_same_in_a_fresh_process() -> None:
    code = """
import sys
from dqnkit.agents.learner import DqnLearner
from dqnkit.config import loading
from tests.specs import vector_spec
for kind in sys.argv[1:]:
    config = loading.default_config("x", kind.split())
    print(*DqnLearner(config, vector_spec(1, num_actions=2), weights_key=0).variables())
"""
    # In the opposite order, so that other learners are built before each one.
    kinds = list(reversed(OPTIMIZERS.values()))
    arguments = [" ".join(assignments) for assignments, _ in kinds]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [_names(expected) for _, expected in kinds]


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("names", ["current", "positional"])
def test_a_restored_learner_continues_as_the_one_that_was_saved(
    small: Small, kind: str, names: str
) -> None:
    settings = [*OPTIMIZERS[kind][0], "agent.target_update_period=3"]
    learner, restored = _linear(small, *settings), _linear(small, *settings)
    for _ in range(2):
        learner.update(BATCH)
    saved = _values(learner)
    if names == "positional":  # as older checkpoints have them
        slots = [f"optimizer/{i}" for i in range(len(OPTIMIZERS[kind][1]))]
        old = ["online/0", "target/0", *slots, "counter/0", "counter/1"]
        saved = dict(zip(old, saved.values(), strict=True))
    restored.restore(saved)
    for each in (learner, restored):
        each.update(BATCH)  # the third update, which is due to update the target network
    for name, value in _values(learner).items():
        np.testing.assert_array_equal(_values(restored)[name], value, err_msg=name)


def test_current_names_take_precedence_over_positional_ones(small: Small) -> None:
    learner = _linear(small)
    expected = learner.policy_weights()
    learner.restore({**_values(learner), "online/0": np.zeros(4, np.float32)})
    np.testing.assert_array_equal(learner.policy_weights(), expected)


def test_a_state_of_another_network_or_optimizer_is_rejected(small: Small) -> None:
    learner = _linear(small)
    values = _values(learner)
    with pytest.raises(ConfigError, match=r"has shape \(2, 2\) for 'online/parameters'"):
        learner.restore({**values, "online/parameters": np.zeros((2, 2), np.float32)})
    old = {k: v for k, v in values.items() if k != "online/parameters"}
    old["online/0"] = np.zeros(7, np.float32)
    with pytest.raises(ConfigError, match=r"has shape \(7,\) for 'online/parameters'"):
        learner.restore(old)
    with pytest.raises(ConfigError, match="has no value for 'target/parameters'"):
        learner.restore({k: v for k, v in values.items() if k != "target/parameters"})
    with pytest.raises(ConfigError, match="has no value for 'optimizer/velocity/parameters'"):
        _linear(small, "optimizer.kind=rmsprop").restore(values)
