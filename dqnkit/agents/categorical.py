"""C51 with a loss for each transition, importance weights, and double Q-learning."""

from __future__ import annotations

from typing import Any

from dqnkit._system.tensorflow import Tensor, categorical_dqn_agent, dqn_agent, tf, tf_agent
from dqnkit.agents.networks import CategoricalQNetwork


class CategoricalAgent(categorical_dqn_agent.CategoricalDqnAgent):  # type: ignore[misc]  # untyped
    """`CategoricalDqnAgent` (Bellemare et al., 2017, algorithm 1), as TF-Agents 0.19 leaves it out.

    It applies importance weights and says what each transition lost, both of which prioritized
    replay needs. With `double`, the online network chooses the action whose distribution is the
    target (Hessel et al., 2018, section 3). Returns over several steps are the replay's business,
    as for `DqnAgent`: a transition has the sum of its rewards and what its bootstrap is discounted
    by.
    """

    def __init__(
        self, time_step_spec: Any, action_spec: Any, network: CategoricalQNetwork, **options: Any
    ) -> None:
        """As `CategoricalDqnAgent`, whose range of values is the network's; and `double`."""
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
        """Cross entropy of the projected target; its `td_error` is the Kullback-Leibler divergence.

        Which is what Rainbow prioritizes by: the cross entropy without what no update can lower.
        """
        time_step, policy_step, next_time_step = experience
        logits = _of_action(self._q_network(time_step.observation)[0], policy_step.action)
        target = tf.stop_gradient(self._target_distribution(next_time_step, gamma))
        loss = tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
        divergence = loss + tf.reduce_sum(tf.math.xlogy(target, target), axis=1)
        weighted = loss if weights is None else loss * weights
        extra = dqn_agent.DqnLossInfo(td_loss=loss, td_error=divergence)
        return tf_agent.LossInfo(tf.reduce_mean(weighted), extra)

    def _target_distribution(self, next_time_step: Any, gamma: float) -> Tensor:
        """Probabilities float32 [B, num_atoms] that the online network is to come to."""
        support = self._q_network.support
        logits = self._target_q_network(next_time_step.observation)[0]
        chooser = self._q_network(next_time_step.observation)[0] if self._double else logits
        means = self._q_network.mean(chooser)
        action = tf.argmax(means, axis=1, output_type=tf.int32)
        discount = gamma * next_time_step.discount
        returns = next_time_step.reward[:, None] + discount[:, None] * support
        return project(returns, tf.nn.softmax(_of_action(logits, action)), support)


def project(returns: Tensor, probabilities: Tensor, support: Any) -> Tensor:
    """The projection onto a support, equation 7 of Bellemare et al. (2017).

    Each return's probability is shared between its two neighbours in the support, in inverse
    proportion to their distance; beyond an end, the end takes it. As a batch of products, which XLA
    runs in half the time of TF-Agents' `project_distribution` (`benchmarks/kernels.py`); the values
    are the same.

    Args:
      returns: float32 [B, K].
      probabilities: Theirs, float32 [B, K].
      support: float32 [N], equally spaced upwards.

    Returns:
      Probabilities float32 [B, N].
    """
    low, high, count = support[0], support[-1], support.shape[0]
    places = (tf.clip_by_value(returns, low, high) - low) * ((count - 1) / (high - low))
    numbers = tf.range(count, dtype=tf.float32)
    shares = tf.maximum(0.0, 1.0 - tf.abs(places[:, :, None] - numbers))
    return tf.linalg.matvec(shares, probabilities, transpose_a=True)


def _of_action(logits: Tensor, action: Tensor) -> Tensor:
    """[B, num_atoms] of logits [B, num_actions, num_atoms]; a gather's gradient is a slow loop."""
    chosen = tf.one_hot(action, logits.shape[1], dtype=logits.dtype)
    return tf.reduce_sum(logits * chosen[:, :, None], axis=1)
