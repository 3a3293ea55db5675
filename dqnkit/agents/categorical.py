"""C51 with a loss for each transition, importance weights, and double Q-learning."""

from __future__ import annotations

from typing import Any

from dqnkit._system.tensorflow import Tensor, categorical_dqn_agent, dqn_agent, tf, tf_agent
from dqnkit.agents.networks import CategoricalQNetwork


class CategoricalAgent(categorical_dqn_agent.CategoricalDqnAgent):  # type: ignore[misc]  # untyped
    """C51 (Bellemare et al., 2017, algorithm 1), with what TF-Agents 0.19's agent lacks.

    The loss takes importance weights and reports a value for each transition, both of which
    prioritized replay needs. With `double`, the online network selects the action whose target
    distribution is used (Hessel et al., 2018, section 3).

    The update of a transition (s, a, r, d, s'), with support z_1 ... z_N, online parameters theta
    and target parameters theta-, is:

        a* = argmax_a sum_j z_j p_j(s', a; theta-)    (`double`: theta in place of theta-)
        m  = projection onto z of the returns r + gamma d z_j with probabilities p_j(s', a*; theta-)
        l  = - sum_j m_j log p_j(s, a; theta)

    Here r and d are `Transitions.reward` and `Transitions.discount`; the replay has already put
    the n-step return into them, as for `DqnAgent`.
    """

    def __init__(
        self, time_step_spec: Any, action_spec: Any, network: CategoricalQNetwork, **options: Any
    ) -> None:
        """Build the agent on a network's support.

        Args:
          time_step_spec: Specification of the network's input as a TF-Agents `TimeStep`.
          action_spec: Specification of a scalar action that counts from 0.
          network: The online network, which also defines the support.
          **options: `double`, a bool, and the other arguments of `CategoricalDqnAgent`.
        """
        self._double = options.pop("double")
        super().__init__(
            time_step_spec,
            action_spec,
            categorical_q_network=network,
            min_q_value=float(network.support[0]),
            max_q_value=float(network.support[-1]),
            **options,
        )

    def _loss(
        self, experience: Any, *, gamma: float, weights: Tensor | None = None, **_: Any
    ) -> Any:
        """Return the mean weighted cross entropy to the projected target distribution.

        The `td_error` of a transition is the Kullback-Leibler divergence, by which Rainbow
        prioritizes (Hessel et al., 2018): the cross entropy minus the target's entropy, which no
        update can reduce.
        """
        time_step, policy_step, next_time_step = experience
        logits = _select_action(self._q_network(time_step.observation)[0], policy_step.action)
        target = tf.stop_gradient(self._target_distribution(next_time_step, gamma))
        loss = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
        divergence = loss + tf.reduce_sum(tf.math.xlogy(target, target), axis=1)
        weighted = loss if weights is None else loss * weights
        extra = dqn_agent.DqnLossInfo(td_loss=loss, td_error=divergence)
        return tf_agent.LossInfo(tf.reduce_mean(weighted), extra)

    def _target_distribution(self, next_time_step: Any, gamma: float) -> Tensor:
        """Return the projected target probabilities m, float32 [B, num_atoms]."""
        support = self._q_network.support
        logits = self._target_q_network(next_time_step.observation)[0]
        selecting = self._q_network(next_time_step.observation)[0] if self._double else logits
        means = self._q_network.mean(selecting)
        action = tf.argmax(means, axis=1, output_type=tf.int32)
        discount = gamma * next_time_step.discount
        returns = next_time_step.reward[:, None] + discount[:, None] * support
        return project(returns, tf.nn.softmax(_select_action(logits, action)), support)


def project(returns: Tensor, probabilities: Tensor, support: Any) -> Tensor:
    """Project a distribution of returns onto a support (Bellemare et al., 2017, equation 7).

    The probability of each return is shared between its two neighbours in the support, in
    inverse proportion to their distance; returns beyond an end of the support are clipped to it.
    The values are those of TF-Agents' `project_distribution`. Written as a batch of matrix
    products, the projection takes half as long under XLA (`benchmarks/kernels.py`).

    Args:
      returns: Returns, float32 [B, K].
      probabilities: Probabilities of the returns, float32 [B, K].
      support: Equally spaced atoms in ascending order, float32 [N].

    Returns:
      Probabilities of the atoms, float32 [B, N].
    """
    low, high, count = support[0], support[-1], support.shape[0]
    positions = (tf.clip_by_value(returns, low, high) - low) * ((count - 1) / (high - low))
    atoms = tf.range(count, dtype=tf.float32)
    shares = tf.maximum(0.0, 1.0 - tf.abs(positions[:, :, None] - atoms))
    return tf.linalg.matvec(shares, probabilities, transpose_a=True)


def _select_action(logits: Tensor, action: Tensor) -> Tensor:
    """Return the logits [B, num_atoms] of one action each, from [B, num_actions, num_atoms]."""
    # The gradient of a gather would be a slow loop under XLA.
    selected = tf.one_hot(action, logits.shape[1], dtype=logits.dtype)
    return tf.reduce_sum(logits * selected[:, :, None], axis=1)
