"""TF-Agents' DQN, built from a configuration and fed with transitions."""

from __future__ import annotations

import numpy as np

from dqnkit.config import Config
from dqnkit.errors import ConfigError
from dqnkit.networks import QNetwork
from dqnkit.policies import Weights
from dqnkit.runtime import (
    Tensor,
    common,
    dqn_agent,
    policy_step,
    tensor_spec,
    tf,
    trajectory,
)
from dqnkit.runtime import time_step as ts
from dqnkit.specs import EnvSpec
from dqnkit.transitions import Transitions

_LOSSES = {
    "squared": common.element_wise_squared_loss,
    "huber": common.element_wise_huber_loss,
}


class DqnLearner:
    """A `DqnAgent` whose parts a loop can compile: Q-values, greedy actions, one update."""

    def __init__(self, config: Config, spec: EnvSpec, weights_key: int) -> None:
        self._network = QNetwork(spec.observation, spec.num_actions, config.network, weights_key)
        observation_spec = self._network.input_tensor_spec
        self._optimizer = tf.keras.optimizers.Adam(config.optimizer.learning_rate)
        self.agent = dqn_agent.DqnAgent(
            ts.time_step_spec(observation_spec),
            tensor_spec.BoundedTensorSpec([], tf.int32, 0, spec.num_actions - 1, "action"),
            q_network=self._network,
            optimizer=self._optimizer,
            epsilon_greedy=None,
            td_errors_loss_fn=_LOSSES[config.agent.loss],
            gamma=config.agent.gamma,
            target_update_tau=config.agent.target_update_tau,
            target_update_period=config.agent.target_update_period,
            gradient_clipping=config.agent.gradient_clipping,
            train_step_counter=tf.Variable(0, dtype=tf.int64, name="train_step"),
        )
        self.agent.initialize()
        # Slots made inside the compiled loop would be variables that it creates.
        self._optimizer.build(self._network.trainable_variables)

    def q_values(self, observation: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of the online network."""
        return self._network.q_values(observation)

    def greedy_actions(self, observation: Tensor) -> Tensor:
        """Actions of the highest Q-value, int32 [B]; the first of equals."""
        return tf.argmax(self.q_values(observation), axis=1, output_type=tf.int32)

    def update(self, transitions: Transitions) -> Tensor:
        """One gradient step of `DqnAgent.train`, target update included.

        Returns:
          The loss before the step, averaged over the batch; float32 scalar.
        """
        batch_size = transitions.action.shape[0]
        mid = tf.fill([batch_size], ts.StepType.MID)
        # LAST would be masked where a time step is the *first* of a transition, and nowhere
        # else does the loss read step types: ends are told by the discount alone.
        time_step = ts.TimeStep(
            mid,
            tf.zeros([batch_size]),
            tf.ones([batch_size]),
            self._network.as_input(transitions.observation),
        )
        next_time_step = ts.TimeStep(
            mid,
            transitions.reward,
            transitions.discount,
            self._network.as_input(transitions.next_observation),
        )
        experience = trajectory.Transition(
            time_step, policy_step.PolicyStep(transitions.action), next_time_step
        )
        return self.agent.train(experience).loss

    def policy_weights(self) -> Weights:
        """The online network's weights."""
        weights: Weights = self._network.parameters.numpy()
        return weights

    def variables(self) -> dict[str, Tensor]:
        """All that an update reads or writes, by name: networks, optimizer, counters."""
        named = {
            "online": [self._network.parameters],
            "target": [self.agent._target_q_network.parameters],
            "optimizer": self._optimizer.variables,
            "counter": [self.agent.train_step_counter, self.agent._update_target._counter],
        }
        return {f"{group}/{i}": v for group, vs in named.items() for i, v in enumerate(vs)}

    def restore(self, values: dict[str, np.ndarray]) -> None:
        """Sets every variable from `{name: value}` as `variables` names them.

        Raises:
          ConfigError: A name is missing or a shape differs: another network or optimizer.
        """
        for name, variable in self.variables().items():
            if name not in values or values[name].shape != tuple(variable.shape):
                given = values[name].shape if name in values else "nothing"
                raise ConfigError(
                    f"the saved state has {given} for {name!r}, and this configuration needs "
                    f"{tuple(variable.shape)}: restore it with the configuration it was saved by"
                )
            variable.assign(values[name])
