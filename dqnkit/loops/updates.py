"""The updates of an iteration outside the graph: one call into a compiled function for all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dqnkit._system.tensorflow import Tensor, compiled, tf, xla
from dqnkit.agents.learner import DqnLearner
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.transitions import Transitions
from dqnkit.replay.base import Sample
from dqnkit.replay.priorities import importance_weights


class UpdateOutput(NamedTuple):
    """What the updates of an iteration came to."""

    loss: float
    """Sum over them."""
    td_errors: np.ndarray
    """Of all transitions, in their order; float32 [updates * batch_size]."""
    q_values: np.ndarray | None
    """Of the observations that are acted on next, float32 [num_envs, num_actions]."""


class CompiledUpdates:
    """Compiled updates, and with them the Q-values for the next step where there is one.

    A call from Python costs more than a small update does: so the batches of an iteration are
    drawn together, by the priorities that it began with, and go in and out as few tensors.
    """

    def __init__(
        self, config: Config, spec: EnvSpec, learner: DqnLearner, *, frames: int, acts: bool
    ) -> None:
        """Traces what is called. tf.function stands here, at the outermost edge.

        Args:
          config: Resolved.
          spec: Of its environment.
          learner: Whose networks are updated.
          frames: Of a sampled transition (`Replay.frames_per_sample`).
          acts: Whether the same process acts in the environments.
        """
        training, observation = config.training, spec.observation
        self._learner = learner
        self._spec = spec
        self._prioritized = config.replay.is_prioritized
        self._batch = (training.gradient_steps_per_iteration, training.batch_size)
        self.drawn = training.gradient_steps_per_iteration * training.batch_size
        """Transitions that a call takes."""
        scalars = 4 if self._prioritized else 3
        self._inputs = [
            tf.TensorSpec([*self._batch, frames, *observation.frame_shape], observation.dtype),
            tf.TensorSpec([*self._batch, scalars], tf.float32),
        ]
        if acts:
            shape = [config.env.num_envs, *observation.shape]
            acted_on = tf.TensorSpec(shape, observation.dtype)
            self._inputs.append(acted_on)
            self._act = compiled(learner.q_values, acted_on)
        self._learn = compiled(self._learn_and_act, *self._inputs)

    def q_values(self, observation: np.ndarray) -> np.ndarray:
        """Of what is acted on, without an update."""
        q_values: np.ndarray = self._act(tf.constant(observation)).numpy()
        return q_values

    def warm_up(self) -> None:
        """XLA compiles at a first call; what that one learns from zeros is taken back."""
        inputs = [tf.zeros(spec.shape, spec.dtype) for spec in self._inputs]
        if len(inputs) == 3:
            self._act(inputs[-1])
        if self.drawn:
            kept = {name: value.numpy() for name, value in self._learner.variables().items()}
            self._learn(*inputs)
            self._learner.restore(kept)

    def __call__(
        self, sample: Sample, beta: float, observation: np.ndarray | None = None
    ) -> UpdateOutput:
        """Learns from a sample.

        Args:
          sample: As many transitions as `drawn`.
          beta: Exponent of importance weights, where there are any.
          observation: What is acted on next, if anything is.
        """
        scalars = sample.scalars.reshape(*self._batch, -1)
        if sample.priorities is not None:
            weights = importance_weights(sample.priorities.reshape(self._batch), beta)
            scalars = np.concatenate([scalars, weights[:, :, None]], axis=2)
        frames = sample.frames.reshape(*self._batch, *sample.frames.shape[1:])
        inputs = [frames, scalars] if observation is None else [frames, scalars, observation]
        outcome = self._learn(*map(tf.constant, inputs)).numpy()
        loss, td_errors, q_values = np.split(outcome, [1, 1 + self.drawn])
        acts = observation is not None
        return UpdateOutput(
            float(loss[0]),
            td_errors,
            q_values.reshape(-1, self._spec.num_actions) if acts else None,
        )

    def _learn_and_act(
        self, frames: Tensor, scalars: Tensor, observation: Tensor | None = None
    ) -> Tensor:
        """An update for each batch, then Q-values.

        Returns:
          The sum of the losses, the TD errors of all batches, and the Q-values; float32
          [1 + updates * batch_size + num_envs * num_actions], as one tensor because each one costs.
        """
        stack = self._spec.observation.frame_stack
        updates, batch_size = frames.shape[:2]

        def update(i: Tensor, loss: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            transitions, weights = _transitions(frames[i], scalars[i], stack)
            learned = self._learner.update(transitions, weights)
            errors = xla.dynamic_update_slice(
                errors, learned.td_errors, tf.reshape(i * batch_size, [1])
            )
            return i + 1, loss + learned.loss, errors

        start = (tf.constant(0), tf.constant(0.0), tf.zeros([updates * batch_size]))
        if updates == 1:  # without the cost of a loop
            _, loss, errors = update(*start)
        else:
            _, loss, errors = tf.while_loop(lambda i, *_: i < updates, update, start)
        parts = [loss[None], errors]
        if observation is not None:
            parts.append(tf.reshape(self._learner.q_values(observation), [-1]))
        return tf.concat(parts, axis=0)


def _transitions(frames: Tensor, scalars: Tensor, stack: int) -> tuple[Transitions, Tensor | None]:
    """A batch and its importance weights."""
    action, reward, discount, *weights = tf.unstack(scalars, axis=1)
    transitions = Transitions(
        frames[:, :stack], tf.cast(action, tf.int32), reward, discount, frames[:, -stack:]
    )
    return transitions, weights[0] if weights else None
