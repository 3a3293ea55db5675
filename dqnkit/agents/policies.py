"""Policies: played while training goes on, saved for whoever serves them, and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from dqnkit._system.stderr import quiet_stderr
from dqnkit._system.tensorflow import Tensor, tf
from dqnkit.agents import networks
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import PolicyError

Weights = np.ndarray
"""A Q-network's parameters, float32 [n]."""


class Policy(Protocol):
    """Acts, as a pure function of observations and random numbers."""

    spec: EnvSpec
    """What it plays."""
    num_uniforms: int
    """Random numbers that an action takes."""

    def actions(self, observations: Tensor, uniforms: Tensor) -> Tensor:
        """Actions int32 [B], counted from 0.

        Args:
          observations: [B, *observation.shape].
          uniforms: float64 [B, num_uniforms] in [0, 1).
        """


class GreedyPolicy(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """Acts by the highest Q-value, with weights of its own that are set from outside (`Policy`).

    Saved, it needs TensorFlow alone to be loaded and used.
    """

    num_uniforms = 0

    def __init__(self, spec: EnvSpec, config: Config) -> None:
        super().__init__(name="greedy_policy")
        self.spec = spec
        self._network = networks.make_network(config, spec, seed=0)
        self._network.create_variables()

    def q_values(self, observations: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of observations [B, *observation.shape]."""
        return self._network.q_values(observations)

    def actions(self, observations: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """See `Policy`: the first of equals."""
        del uniforms
        return tf.argmax(self.q_values(observations), axis=1, output_type=tf.int32)

    def set_weights(self, weights: Weights) -> None:
        """Takes over the weights of a Q-network of the same shape."""
        self._network.parameters.assign(weights)

    def save(self, path: Path) -> None:
        """Writes a SavedModel: `observations` to `actions` and `q_values`.

        Observations are Gymnasium's own, [B, *observation.shape], and so are actions: the first
        has the number that the environment gives it. It is written apart from the class, so that
        nothing of training comes along.
        """
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


class SavedPolicy:
    """A policy as `GreedyPolicy.save` left it (`Policy`); the network's code is not needed."""

    num_uniforms = 0

    def __init__(self, path: Path, spec: EnvSpec) -> None:
        """Loads it.

        Args:
          path: Folder of the SavedModel.
          spec: Of the environment that it is to play.

        Raises:
          PolicyError: It cannot be read, or it was trained on other observations or actions.
        """
        self.spec = spec
        try:
            self._model = tf.saved_model.load(str(path))
            self._serve = self._model.signatures["serving_default"]
            given = self._serve.structured_input_signature[1]["observations"]
            actions = self._serve.structured_outputs["q_values"].shape[1]
        except Exception as error:  # each way to be broken raises a class of its own
            raise PolicyError(
                f"{path}: the saved policy cannot be read: {type(error).__name__}: "
                f"{' '.join(str(error).split()):.200}; it is torn or was not written by dqnkit"
            ) from error
        observation = spec.observation
        trained_on = (tuple(given.shape[1:]), given.dtype.name, actions)
        if trained_on != (observation.shape, observation.dtype, spec.num_actions):
            raise PolicyError(
                f"{path}: the policy takes observations of shape {trained_on[0]} ({trained_on[1]}) "
                f"and chooses among {trained_on[2]} actions, and {spec.id!r} has "
                f"{observation.shape} ({observation.dtype}) and {spec.num_actions}: the "
                "environment has changed since it was trained"
            )

    def q_values(self, observations: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of observations [B, *observation.shape]."""
        return self._served(observations)["q_values"]

    def actions(self, observations: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """See `Policy`."""
        del uniforms
        return self._served(observations)["actions"] - self.spec.first_action

    def _served(self, observations: Tensor) -> dict[str, Tensor]:
        # Dynamics in the graph give discrete observations as floats [B, 1].
        observation = self.spec.observation
        given = tf.reshape(tf.cast(observations, observation.dtype), [-1, *observation.shape])
        served: dict[str, Tensor] = self._serve(observations=given)
        return served


class RandomPolicy:
    """Acts uniformly at random: the baseline that has learnt nothing (`Policy`)."""

    num_uniforms = 1

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec

    def actions(self, observations: Tensor, uniforms: Tensor) -> Tensor:
        """See `Policy`."""
        del observations
        return tf.cast(uniforms[:, 0] * self.spec.num_actions, tf.int32)
