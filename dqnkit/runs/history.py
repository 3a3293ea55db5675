"""The evaluations of one run, and the best of the policies that they evaluated."""

from __future__ import annotations

import numpy as np

from dqnkit.config.sections import EvaluationConfig
from dqnkit.evaluation.base import Watch, unwatched, watch_from
from dqnkit.evaluation.episodes import Episodes, Evaluation, late_episodes
from dqnkit.runs.checkpoints import Checkpoint
from dqnkit.runs.components import Components


class EvaluationHistory:
    """The evaluations of one run, and the weights of the policy that scored best."""

    def __init__(
        self, components: Components, config: EvaluationConfig, checkpoint: Checkpoint | None
    ) -> None:
        """Make a history.

        Args:
          components: Components of the run; its loop has the weights to evaluate.
          config: Numbers of episodes.
          checkpoint: Checkpoint of a resumed run, whose history continues.
        """
        self._components = components
        self._config = config
        self._evaluations = list(checkpoint.evaluations) if checkpoint else []
        self.best_index = checkpoint.best if checkpoint else -1
        """Index of the best evaluation; -1 before the first."""
        self.best_weights = checkpoint.best_weights if checkpoint else np.zeros(0, np.float32)
        """Weights of the policy that it evaluated, float32 [n]."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """All evaluations, in order."""
        return tuple(self._evaluations)

    @property
    def best(self) -> Evaluation:
        """The evaluation with the highest mean return; the latest of equals."""
        return self._evaluations[self.best_index]

    @property
    def late(self) -> Episodes:
        """Episodes of the last evaluations together."""
        return late_episodes(self._evaluations)

    def evaluate(self, watch: Watch = unwatched) -> Evaluation:
        """Evaluate the current policy.

        Args:
          watch: Called while episodes are played; nothing is kept of an evaluation that it ends.
        """
        loop = self._components.loop
        weights = loop.policy_weights()
        self._components.policy.set_weights(weights)
        returns, lengths = self._components.evaluator.play(loop.iteration, watch)
        evaluation = _evaluation(returns, lengths, loop.iteration, loop.env_steps)
        self._evaluations.append(evaluation)
        if self.best_index < 0 or evaluation.summary.mean >= self.best.summary.mean:
            self.best_index, self.best_weights = len(self._evaluations) - 1, weights
        return evaluation

    def evaluate_best(self, watch: Watch = unwatched, *, in_full: bool = True) -> Evaluation:
        """Evaluate the best policy on fresh episodes, which have negative counters.

        Args:
          watch: Called while episodes are played, as in `evaluate`.
          in_full: True for all configured episodes; False for the number of one evaluation, for a
            run that a pruner has ended.
        """
        self._components.policy.set_weights(self.best_weights)
        size = self._config.num_eval_episodes
        wanted = self._config.final_episodes if in_full else min(size, self._config.final_episodes)
        played = [
            self._components.evaluator.play(-1 - batch, watch_from(watch, batch * size))
            for batch in range(-(-wanted // size))
        ]
        returns, lengths = (np.concatenate(each)[:wanted] for each in zip(*played, strict=True))
        return _evaluation(returns, lengths, self.best.iteration, self.best.env_steps)


def _evaluation(
    returns: np.ndarray, lengths: np.ndarray, iteration: int, env_steps: int
) -> Evaluation:
    return Evaluation(
        iteration=iteration,
        env_steps=env_steps,
        returns=tuple(returns.tolist()),
        lengths=tuple(lengths.tolist()),
    )
