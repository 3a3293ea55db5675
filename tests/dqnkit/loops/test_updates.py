from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dqnkit._system.tensorflow import tf
from dqnkit.agents.learner import DqnLearner
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec, ObservationKind
from dqnkit.envs.transitions import Transitions
from dqnkit.loops.updates import CompiledUpdates
from dqnkit.replay.base import Sample
from dqnkit.replay.priorities import importance_weights
from tests.specs import observation_spec, vector_spec

Small = Callable[..., Config]
BATCH = 8
SIZE = 3


def _sample(updates: int, *, prioritized: bool = False, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    total = updates * BATCH
    return Sample(
        frames=rng.normal(size=(total, 2, SIZE)).astype(np.float32),
        scalars=np.stack(
            [
                rng.integers(3, size=total),
                rng.normal(size=total),
                rng.integers(2, size=total),
            ],
            axis=1,
        ).astype(np.float32),
        rows=np.arange(total),
        priorities=rng.uniform(0.1, 1.0, total) if prioritized else None,
    )


def _make(
    small: Small, *assignments: str, acts: bool = True
) -> tuple[CompiledUpdates, DqnLearner, DqnLearner]:
    """Return updates, their learner, and another learner with the same weights."""
    config, spec = small("env.num_envs=2", *assignments), vector_spec(SIZE)
    learner, other = DqnLearner(config, spec, 1), DqnLearner(config, spec, 1)
    return CompiledUpdates(config, spec, learner, frames=2, acts=acts), learner, other


def _update(learner: DqnLearner, sample: Sample, weights: np.ndarray | None) -> list[np.ndarray]:
    """Make one update per batch, without the compiled function; return loss and TD errors."""
    losses, errors = [], []
    for i in range(0, len(sample.rows), BATCH):
        batch = slice(i, i + BATCH)
        action, reward, discount = sample.scalars[batch].T
        info = learner.update(
            Transitions(
                tf.constant(sample.frames[batch, :1]),
                tf.constant(action, tf.int32),
                tf.constant(reward),
                tf.constant(discount),
                tf.constant(sample.frames[batch, 1:]),
            ),
            None if weights is None else tf.constant(weights[batch]),
        )
        losses.append(info.loss.numpy())
        errors.append(info.td_errors.numpy())
    return [np.sum(losses), np.concatenate(errors)]


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize("prioritized", [False, True])
def test_one_call_makes_the_updates_of_all_batches_in_order(
    small: Small, updates: int, prioritized: bool
) -> None:
    compiled, learner, other = _make(
        small,
        f"training.gradient_steps_per_iteration={updates}",
        f"replay.kind={'prioritized' if prioritized else 'uniform'}",
    )
    assert compiled.batch_total == updates * BATCH
    sample = _sample(updates, prioritized=prioritized)
    observation = np.random.default_rng(1).normal(size=(2, SIZE)).astype(np.float32)
    output = compiled(sample, 0.5, observation)

    weights = None
    if sample.priorities is not None:
        weights = importance_weights(sample.priorities.reshape(updates, BATCH), 0.5).reshape(-1)
    loss, errors = _update(other, sample, weights)
    np.testing.assert_allclose(output.loss, loss, rtol=1e-5)
    np.testing.assert_allclose(output.td_errors, errors, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(learner.policy_weights(), other.policy_weights(), atol=1e-6)
    # The Q-values are those after the updates.
    assert output.q_values is not None
    assert output.q_values.shape == (2, 3)
    np.testing.assert_allclose(output.q_values, compiled.q_values(observation), rtol=1e-5)
    np.testing.assert_allclose(
        output.q_values, learner.q_values(tf.constant(observation)).numpy(), rtol=1e-4, atol=1e-6
    )


def test_a_process_that_does_not_act_gets_no_q_values(small: Small) -> None:
    compiled, learner, _ = _make(small, acts=False)
    before = learner.policy_weights()
    assert compiled(_sample(1), 1.0).q_values is None
    assert not np.array_equal(before, learner.policy_weights())


@pytest.mark.parametrize("acts", [False, True])
def test_warming_up_changes_nothing(small: Small, acts: bool) -> None:
    compiled, learner, other = _make(small, acts=acts)
    compiled.warm_up()
    variables = other.variables()
    for name, value in learner.variables().items():
        np.testing.assert_array_equal(value.numpy(), variables[name].numpy(), err_msg=name)


def test_without_updates_only_q_values_are_compiled(small: Small) -> None:
    compiled, learner, other = _make(small, "training.gradient_steps_per_iteration=0")
    assert compiled.batch_total == 0
    compiled.warm_up()
    observation = np.ones((2, SIZE), np.float32)
    expected = learner.q_values(tf.constant(observation)).numpy()
    np.testing.assert_allclose(compiled.q_values(observation), expected, rtol=1e-5)
    np.testing.assert_array_equal(learner.policy_weights(), other.policy_weights())


def test_stacked_frames_become_observations_that_overlap(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Transitions] = []
    update = DqnLearner.update

    def watch(self: DqnLearner, transitions: Transitions, weights: tf.Tensor) -> object:
        seen.append(transitions)
        return update(self, transitions, weights)

    monkeypatch.setattr(DqnLearner, "update", watch)
    spec = EnvSpec(
        "Corridor-v0",
        observation_spec(ObservationKind.VECTOR, (SIZE,), "float32", frame_stack=2),
        3,
    )
    config = small("env.frame_stack=2")
    CompiledUpdates(config, spec, DqnLearner(config, spec, 1), frames=3, acts=False)
    (transitions,) = seen  # traced once
    assert transitions.observation.shape == (BATCH, 2, SIZE)
    assert transitions.next_observation.shape == (BATCH, 2, SIZE)
    assert transitions.action.dtype == tf.int32
