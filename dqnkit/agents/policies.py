"""Policies that play an environment: greedy, loaded from disk, and random."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.agents import inputs, networks
from dqnkit.config.sections import Config
from dqnkit.envs.specs import ArraySpec, EnvSpec, ObservationSpec
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
        """Write a SavedModel with a signature from observations to `actions` and `q_values`.

        Observations [B, *observation.shape] and actions [B] are those of the Gymnasium
        environment: its first action keeps the environment's number (`first_action`). The one
        array of an observation is called `observations`; several have the names
        `ObservationSpec.input_names`.

        Args:
          path: Folder of the SavedModel, which is created.
        """
        # A bare module, so that the SavedModel holds the parameters and nothing else of this class.
        module = tf.Module()
        module.parameters = self._network.parameters
        observation = self.spec.observation

        def serve(**observations: Tensor) -> dict[str, Tensor]:
            arrays = [
                inputs.from_environment(observations[name], array, observation.frame_stack)
                for name, array in zip(observation.input_names, observation.arrays, strict=True)
            ]
            q_values = self._network.q_values_of_arrays(arrays)
            best = tf.argmax(q_values, axis=1, output_type=tf.int32)
            return {"actions": best + self.spec.first_action, "q_values": q_values}

        specs = {
            name: tf.TensorSpec([None, *observation.stacked(array.shape)], array.env_dtype, name)
            for name, array in zip(observation.input_names, observation.arrays, strict=True)
        }
        module.serve = tf.function(serve, autograph=False).get_concrete_function(**specs)
        with quiet_stderr():
            tf.saved_model.save(module, str(path), signatures=module.serve)


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
            signature = self._serve.structured_input_signature[1]
            actions = self._serve.structured_outputs["q_values"].shape[1]
        except Exception as error:  # TensorFlow raises many classes for a damaged file
            raise PolicyError(
                f"{path}: the saved policy cannot be read: {type(error).__name__}: "
                f"{' '.join(str(error).split()):.200}; it is damaged or was not written by dqnkit"
            ) from error
        observation = spec.observation
        trained_on = {
            name: (tuple(each.shape[1:]), each.dtype.name) for name, each in signature.items()
        }
        given = {
            name: (observation.stacked(array.shape), array.env_dtype)
            for name, array in zip(observation.input_names, observation.arrays, strict=True)
        }
        if (trained_on, actions) != (given, spec.num_actions):
            raise PolicyError(
                f"{path}: the policy takes observations of shape {_described(trained_on)} and "
                f"chooses among {actions} actions, and {spec.id!r} has {_described(given)} and "
                f"{spec.num_actions}: the environment has changed since it was trained"
            )

    def q_values(self, observations: Tensor) -> Tensor:
        """Return Q-values, float32 [B, num_actions], of frames [B, *observation.shape]."""
        return self._serve_frames(observations)["q_values"]

    @override
    def actions(self, observations: Tensor, uniforms: Tensor | None = None) -> Tensor:
        del uniforms
        return self._serve_frames(observations)["actions"] - self.spec.first_action

    def predict(self, observations: Any) -> np.ndarray:
        """Return greedy actions for observations, both as the environment knows them.

        Args:
          observations: Batch of observations: an array [B, *observation.shape], or the arrays of a
            Dict or Tuple in the same nesting, each with the batch as its first axis. The axes of
            an observation may be flattened into one.

        Returns:
          Actions int32 [B], in the environment's numbering.

        Raises:
          PolicyError: If an array is missing or has another shape.
        """
        observation = self.spec.observation
        tensors = {
            name: tf.constant(_batch(observations, array, observation))
            for name, array in zip(observation.input_names, observation.arrays, strict=True)
        }
        actions: np.ndarray = self._serve(**tensors)["actions"].numpy()
        return actions

    def _serve_frames(self, frames: Tensor) -> dict[str, Tensor]:
        # Dynamics in the graph represent discrete observations as floats [B, 1].
        observation = self.spec.observation
        arrays = inputs.split_frames(frames, observation)
        tensors = {
            name: inputs.to_environment(values, array, observation)
            for name, values, array in zip(
                observation.input_names, arrays, observation.arrays, strict=True
            )
        }
        outputs: dict[str, Tensor] = self._serve(**tensors)
        return outputs


def _described(arrays: dict[str, tuple[tuple[int, ...], str]]) -> str:
    """Return names, shapes and dtypes; without a name if there is one array."""
    if len(arrays) == 1:
        ((shape, dtype),) = arrays.values()
        return f"{shape} ({dtype})"
    return ", ".join(f"{name} {shape} ({dtype})" for name, (shape, dtype) in arrays.items())


def _batch(observations: Any, array: ArraySpec, observation: ObservationSpec) -> np.ndarray:
    """Return the batch of one array, [B, *shape]."""
    values, shape = observations, observation.stacked(array.shape)
    try:
        for key in array.path:
            values = values[key]
        numbers = np.asarray(values, array.env_dtype)
        return numbers.reshape(len(numbers), *shape)
    except (LookupError, TypeError, ValueError) as error:
        name = f" {array.name!r}" if array.path else ""
        raise PolicyError(
            f"observations{name}: {type(error).__name__}: {error}; give {array.env_dtype} of shape "
            f"{('N', *shape)}, with the batch as the first axis"
        ) from error


class RandomPolicy(Policy):
    """Uniformly random actions: the baseline without any learning."""

    num_uniforms = 1

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec

    @override
    def actions(self, observations: Tensor, uniforms: Tensor) -> Tensor:
        del observations
        return tf.cast(uniforms[:, 0] * self.spec.num_actions, tf.int32)
