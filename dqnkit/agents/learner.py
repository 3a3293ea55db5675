"""TF-Agents' DQN and its variants, built from a configuration and fed with transitions."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from dqnkit._system.tensorflow import (
    Tensor,
    common,
    dqn_agent,
    policy_step,
    tensor_spec,
    tf,
    trajectory,
)
from dqnkit._system.tensorflow import time_step as ts
from dqnkit.agents import networks, optimizers
from dqnkit.agents.categorical import CategoricalAgent
from dqnkit.agents.policies import Weights
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.envs.transitions import Transitions
from dqnkit.errors import ConfigError

_LOSSES = {
    "squared": common.element_wise_squared_loss,
    "huber": common.element_wise_huber_loss,
}
_AGENTS = {
    "dqn": dqn_agent.DqnAgent,
    "double_dqn": dqn_agent.DdqnAgent,
    "c51": partial(CategoricalAgent, double=False),
    "double_c51": partial(CategoricalAgent, double=True),
}


class UpdateInfo(NamedTuple):
    """What an update came to."""

    loss: Tensor
    """Before the step, averaged over the batch with its importance weights; float32 scalar."""
    td_errors: Tensor
    """float32 [B]; of a categorical agent the Kullback-Leibler divergences, which are not
    negative."""


class DqnLearner:
    """An agent of TF-Agents whose parts a loop can compile: Q-values, actions, one update."""

    def __init__(self, config: Config, spec: EnvSpec, weights_key: int) -> None:
        self._network = networks.make_network(config, spec, weights_key)
        self._optimizer = optimizers.make_optimizer(config)
        agent = config.agent
        self.agent = _AGENTS[agent.kind](
            ts.time_step_spec(self._network.input_tensor_spec),
            tensor_spec.BoundedTensorSpec([], tf.int32, 0, spec.num_actions - 1, "action"),
            self._network,
            optimizer=self._optimizer,
            epsilon_greedy=None,
            td_errors_loss_fn=_LOSSES.get(agent.loss or ""),
            gamma=agent.gamma,
            target_update_tau=agent.target_update_tau,
            target_update_period=agent.target_update_period,
            gradient_clipping=agent.gradient_clipping,
            train_step_counter=tf.Variable(0, dtype=tf.int64, name="train_step"),
        )
        self.agent.initialize()
        # Slots made inside the compiled loop would be variables that it creates.
        self._optimizer.build(self._network.trainable_variables)

    def q_values(self, observation: Tensor) -> Tensor:
        """Q-values float32 [B, num_actions] of the online network."""
        return self._network.q_values(observation)

    def update(
        self, transitions: Transitions, importance_weights: Tensor | None = None
    ) -> UpdateInfo:
        """One gradient step of the agent's `train`, target update included.

        Args:
          transitions: A batch.
          importance_weights: Of its losses, float32 [B]; None is 1 for all.
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
        info = self.agent.train(experience, importance_weights)
        return UpdateInfo(info.loss, info.extra.td_error)

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
