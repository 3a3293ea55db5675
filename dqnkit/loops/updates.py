"""Updates outside the graph: one call into a compiled function for all updates of an iteration."""

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
    """Result of the updates of one iteration."""

    loss: float
    """Sum of the losses of the updates."""
    td_errors: np.ndarray
    """TD errors of all sampled transitions in their order, float32 [updates * batch_size]."""
    q_values: np.ndarray | None
    """Q-values of the observations to act on next, float32 [num_envs, num_actions]."""


class CompiledUpdates:
    """Compiled updates and, if this process also acts, the Q-values for the next step.

    A call from Python takes longer than a small update. The batches of an iteration are therefore
    drawn together, and as few tensors as possible go in and out.
    """

    def __init__(
        self, config: Config, spec: EnvSpec, learner: DqnLearner, *, frames: int, acts: bool
    ) -> None:
        """Trace the functions, none of which calls another `tf.function`.

        Args:
          config: The resolved configuration.
          spec: Specification of its environment.
          learner: The learner to update.
          frames: Number of frames per sampled transition (`HostReplay.frames_per_sample`).
          acts: True if this process also acts in the environments.
        """
        training, observation = config.training, spec.observation
        self._learner = learner
        self._spec = spec
        self._batch = (training.gradient_steps_per_iteration, training.batch_size)
        self.batch_total = training.gradient_steps_per_iteration * training.batch_size
        """Number of transitions that one call takes."""
        scalars = 4 if config.replay.is_prioritized else 3
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
        """Return Q-values float32 [num_envs, num_actions] of observations, without an update."""
        q_values: np.ndarray = self._act(tf.constant(observation)).numpy()
        return q_values

    def warm_up(self) -> None:
        """Compile the functions by calling them on zeros, and undo the update."""
        inputs = [tf.zeros(spec.shape, spec.dtype) for spec in self._inputs]
        if len(inputs) == 3:
            self._act(inputs[-1])
        if self.batch_total:
            kept = {name: value.numpy() for name, value in self._learner.variables().items()}
            self._learn(*inputs)
            self._learner.restore(kept)

    def __call__(
        self, sample: Sample, beta: float, observation: np.ndarray | None = None
    ) -> UpdateOutput:
        """Make all updates of an iteration.

        Args:
          sample: A sample of `batch_total` transitions.
          beta: Exponent of the importance weights; ignored where the sample has no priorities.
          observation: Observations to act on next, if this process acts.
        """
        scalars = sample.scalars.reshape(*self._batch, -1)
        if sample.priorities is not None:
            weights = importance_weights(sample.priorities.reshape(self._batch), beta)
            scalars = np.concatenate([scalars, weights[:, :, None]], axis=2)
        frames = sample.frames.reshape(*self._batch, *sample.frames.shape[1:])
        inputs = [frames, scalars] if observation is None else [frames, scalars, observation]
        packed = self._learn(*map(tf.constant, inputs)).numpy()
        loss, td_errors, q_values = np.split(packed, [1, 1 + self.batch_total])
        acts = observation is not None
        return UpdateOutput(
            float(loss[0]),
            td_errors,
            q_values.reshape(-1, self._spec.num_actions) if acts else None,
        )

    def _learn_and_act(
        self, frames: Tensor, scalars: Tensor, observation: Tensor | None = None
    ) -> Tensor:
        """Make one update per batch, then compute Q-values.

        Returns:
          The sum of the losses, the TD errors of all batches, and the Q-values, packed into one
          tensor because each output of a call takes time: float32
          [1 + updates * batch_size + num_envs * num_actions].
        """
        stack = self._spec.observation.frame_stack
        updates, batch_size = frames.shape[:2]

        def update(i: Tensor, loss: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            transitions, weights = _unpack(frames[i], scalars[i], stack)
            info = self._learner.update(transitions, weights)
            errors = xla.dynamic_update_slice(
                errors, info.td_errors, tf.reshape(i * batch_size, [1])
            )
            return i + 1, loss + info.loss, errors

        start = (tf.constant(0), tf.constant(0.0), tf.zeros([updates * batch_size]))
        if updates == 1:  # a single update does not need a loop
            _, loss, errors = update(*start)
        else:
            _, loss, errors = tf.while_loop(lambda i, *_: i < updates, update, start)
        outputs = [loss[None], errors]
        if observation is not None:
            outputs.append(tf.reshape(self._learner.q_values(observation), [-1]))
        return tf.concat(outputs, axis=0)


def _unpack(frames: Tensor, scalars: Tensor, stack: int) -> tuple[Transitions, Tensor | None]:
    """Return the transitions of one batch and their importance weights, if there are any."""
    action, reward, discount, *weights = tf.unstack(scalars, axis=1)
    transitions = Transitions(
        frames[:, :stack], tf.cast(action, tf.int32), reward, discount, frames[:, -stack:]
    )
    return transitions, weights[0] if weights else None
