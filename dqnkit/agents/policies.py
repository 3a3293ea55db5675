"""Policies that play an environment: greedy, loaded from disk, and random."""

from __future__ import annotations

import abc
from pathlib import Path

import numpy as np
from typing_extensions import override

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.agents import networks
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import PolicyError

Weights = np.ndarray
"""Parameters of a Q-network, float32 [n]."""


class Policy(abc.ABC):
    """A pure function from observations and random numbers to actions."""

    spec: EnvSpec
    """Specification of the environment that the policy plays."""
    num_uniforms: int
    """Number of random numbers that one action takes."""

    @abc.abstractmethod
    def actions(self, observations: Tensor, uniforms: Tensor) -> Tensor:
        """Return actions, int32 [B], counted from 0.

        Args:
          observations: Observations, [B, *observation.shape].
          uniforms: Random numbers in [0, 1), float64 [B, num_uniforms].
        """


class GreedyPolicy(tf.Module, Policy):  # type: ignore[misc]  # TensorFlow has no types
    """Selects the action with the highest Q-value, by weights that `set_weights` sets.

    A saved policy can be loaded and used with TensorFlow alone.
    """

    num_uniforms = 0

    def __init__(self, spec: EnvSpec, config: Config) -> None:
        super().__init__(name="greedy_policy")
        self.spec = spec
        self._network = networks.make_network(config, spec, seed=0)
        self._network.create_variables()

    def q_values(self, observations: Tensor) -> Tensor:
        """Return Q-values, float32 [B, num_actions], of observations [B, *observation.shape]."""
        return self._network.q_values(observations)

    @override
    def actions(self, observations: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Return the actions with the highest Q-values; the first one where several are equal."""
        del uniforms
        return tf.argmax(self.q_values(observations), axis=1, output_type=tf.int32)

    def set_weights(self, weights: Weights) -> None:
        """Copy the parameters of a Q-network of the same architecture."""
        self._network.parameters.assign(weights)

    def save(self, path: Path) -> None:
        """Write a SavedModel with a signature from `observations` to `actions` and `q_values`.

        Observations [B, *observation.shape] and actions [B] are those of the Gymnasium
        environment: its first action keeps the environment's number (`first_action`).

        Args:
          path: Folder of the SavedModel, which is created.
        """
        # A bare module, so that the SavedModel holds the parameters and nothing else of this class.
        module = tf.Module()
        module.parameters = self._network.parameters

        def serve(observations: Tensor) -> dict[str, Tensor]:
            q_values = self.q_values(observations)
            best = tf.argmax(q_values, axis=1, output_type=tf.int32)
            return {"actions": best + self.spec.first_action, "q_values": q_values}

        observation = self.spec.observation
        spec = tf.TensorSpec([None, *observation.shape], observation.dtype, "observations")
        function = tf.function(serve, input_signature=[spec], autograph=False)
        module.serve = function
        with quiet_stderr():
            tf.saved_model.save(module, str(path), signatures=function)


class SavedPolicy(Policy):
    """A policy that `GreedyPolicy.save` wrote; loading it does not need the network's code."""

    num_uniforms = 0

    def __init__(self, path: Path, spec: EnvSpec) -> None:
        """Load the policy.

        Args:
          path: Folder of the SavedModel.
          spec: Specification of the environment to play.

        Raises:
          PolicyError: If the policy cannot be read, or was trained on other observations or
            actions.
        """
        self.spec = spec
        try:
            self._model = tf.saved_model.load(str(path))
            self._serve = self._model.signatures["serving_default"]
            signature = self._serve.structured_input_signature[1]["observations"]
            actions = self._serve.structured_outputs["q_values"].shape[1]
        except Exception as error:  # TensorFlow raises many classes for a damaged file
            raise PolicyError(
                f"{path}: the saved policy cannot be read: {type(error).__name__}: "
                f"{' '.join(str(error).split()):.200}; it is damaged or was not written by dqnkit"
            ) from error
        observation = spec.observation
        trained_on = (tuple(signature.shape[1:]), signature.dtype.name, actions)
        if trained_on != (observation.shape, observation.dtype, spec.num_actions):
            raise PolicyError(
                f"{path}: the policy takes observations of shape {trained_on[0]} ({trained_on[1]}) "
                f"and chooses among {trained_on[2]} actions, and {spec.id!r} has "
                f"{observation.shape} ({observation.dtype}) and {spec.num_actions}: the "
                "environment has changed since it was trained"
            )

    def q_values(self, observations: Tensor) -> Tensor:
        """Return Q-values, float32 [B, num_actions], of observations [B, *observation.shape]."""
        return self._call(observations)["q_values"]

    @override
    def actions(self, observations: Tensor, uniforms: Tensor | None = None) -> Tensor:
        del uniforms
        return self._call(observations)["actions"] - self.spec.first_action

    def predict(self, observations: np.ndarray) -> np.ndarray:
        """Return greedy actions for observations, both as the environment knows them.

        Args:
          observations: Batch of observations, [B, *observation.shape].

        Returns:
          Actions int32 [B], in the environment's numbering.
        """
        actions = self.actions(tf.constant(np.asarray(observations)))
        numbered: np.ndarray = actions.numpy() + self.spec.first_action
        return numbered

    def _call(self, observations: Tensor) -> dict[str, Tensor]:
        # Dynamics in the graph represent discrete observations as floats [B, 1].
        observation = self.spec.observation
        cast = tf.reshape(tf.cast(observations, observation.dtype), [-1, *observation.shape])
        outputs: dict[str, Tensor] = self._serve(observations=cast)
        return outputs


class RandomPolicy(Policy):
    """Uniformly random actions: the baseline without any learning."""

    num_uniforms = 1

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec

    @override
    def actions(self, observations: Tensor, uniforms: Tensor) -> Tensor:
        del observations
        return tf.cast(uniforms[:, 0] * self.spec.num_actions, tf.int32)
