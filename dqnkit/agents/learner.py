"""DQN and its variants: a TF-Agents agent built from a configuration, and its update."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
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
    """Loss and TD errors of an update, computed before its gradient step."""

    loss: Tensor
    """Mean over the batch of the weighted losses, float32 scalar."""
    td_errors: Tensor
    """Unweighted TD errors y - Q(s, a), float32 [B]; for a categorical agent the Kullback-Leibler
    divergences, which are not negative."""


class DqnLearner:
    """Online and target network, optimizer, and the update that trains them.

    `q_values` and `update` can be compiled into a training loop; all state is in `variables`.
    """

    def __init__(self, config: Config, spec: EnvSpec, weights_key: int) -> None:
        """Build networks, optimizer and agent.

        Args:
          config: The resolved configuration.
          spec: Specification of the environment.
          weights_key: Seed of the initial weights.
        """
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
        # Otherwise the first step would create the optimizer's variables inside the compiled loop,
        # where variables cannot be created.
        self._optimizer.build(self._network.trainable_variables)

    def q_values(self, observation: Tensor) -> Tensor:
        """Return the Q-values of the online network, float32 [B, num_actions]."""
        return self._network.q_values(observation)

    def update(
        self, transitions: Transitions, importance_weights: Tensor | None = None
    ) -> UpdateInfo:
        """Make one gradient step on a batch of transitions, then update the target network.

        A transition (s, a, r, D, s') spans n environment steps: `agent.n_step`, or fewer if the
        episode ends or the replay's newest step is reached first. The replay forms the n-step
        return when it samples: r is the sum over k < n of gamma^k r_{t+k}, and D = gamma^(n-1) d,
        where d is 0 if s' is terminal and 1 otherwise. A terminal state therefore adds nothing to
        the target, while a truncated episode bootstraps from its last observation.

        With online parameters theta and target parameters theta-, the target y, which is treated
        as a constant in the gradient, and the loss are:

            dqn          y = r + gamma^n d max_a Q(s', a; theta-)
                         (Mnih et al., 2015)
            double_dqn   y = r + gamma^n d Q(s', argmax_a Q(s', a; theta); theta-)
                         (van Hasselt et al., 2016)

            loss = mean_i w_i l(y_i - Q(s_i, a_i; theta))

        l(e) is e^2 for `agent.loss=squared`; for `huber` it is e^2 / 2 up to |e| = 1 and
        |e| - 1/2 beyond. w_i are the importance weights (Schaul et al., 2016). `c51` and
        `double_c51` instead minimize the cross entropy to the projected Bellman update of a
        distribution (Bellemare et al., 2017, algorithm 1): see `agents/categorical.py`.

        The optimizer steps against the gradient of the loss in theta, whose norm is clipped to
        `agent.gradient_clipping` if that is set. After every `agent.target_update_period` updates,
        the target parameters become theta- = (1 - tau) theta- + tau theta with
        tau = `agent.target_update_tau`.

        TF-Agents' `train` computes exactly this; it multiplies D by the remaining factor gamma.

        Args:
          transitions: A batch of B transitions.
          importance_weights: Weights w of the losses, float32 [B]; None for 1 throughout.

        Returns:
          Loss and TD errors before the step.
        """
        batch_size = transitions.action.shape[0]
        # The loss reads step types only to mask transitions whose *first* time step is LAST. Ends
        # of episodes are given by the discount alone, so every step can be MID.
        mid = tf.fill([batch_size], ts.StepType.MID)
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
        """Return a copy of the online network's parameters."""
        weights: Weights = self._network.parameters.numpy()
        return weights

    def variables(self) -> dict[str, Tensor]:
        """Return every variable that an update reads or writes, by name.

        The names are `online/parameters`, `target/parameters`, `counter/train_step`,
        `counter/target_update`, and `optimizer/...` as `optimizers.named_variables` names them.
        They depend on the configuration alone, so checkpoints can be read in another process.
        """
        optimizer = optimizers.named_variables(self._optimizer)
        return {
            "online/parameters": self._network.parameters,
            "target/parameters": self.agent._target_q_network.parameters,
            **{f"optimizer/{name}": variable for name, variable in optimizer.items()},
            "counter/train_step": self.agent.train_step_counter,
            "counter/target_update": self.agent._update_target._counter,
        }

    def restore(self, values: dict[str, np.ndarray]) -> None:
        """Set every variable.

        Args:
          values: Values under the names of `variables`, or under the names of older checkpoints,
            which count the variables of each group (`optimizer/0`).

        Raises:
          ConfigError: If a name is missing or a shape differs, because the values belong to
            another network or optimizer.
        """
        variables = self.variables()
        for name, old_name in zip(variables, _positional_names(variables), strict=True):
            variable, value = variables[name], values.get(name, values.get(old_name))
            shape = tuple(variable.shape)
            if value is None or value.shape != shape:
                found = "no value" if value is None else f"shape {value.shape}"
                raise ConfigError(
                    f"the saved state has {found} for {name!r}, and this configuration needs "
                    f"shape {shape}: restore it with the configuration that it was saved with"
                )
            variable.assign(value)


def _positional_names(names: Iterable[str]) -> list[str]:
    """Return names that count within each group: `online/0`, ..., `optimizer/0`, `optimizer/1`."""
    counts: Counter[str] = Counter()
    positional = []
    for name in names:
        group = name.partition("/")[0]
        positional.append(f"{group}/{counts[group]}")
        counts[group] += 1
    return positional
