"""The evaluations of one training, and the best of the policies that they played."""

from __future__ import annotations

import numpy as np

from dqnkit.agents.policies import Weights
from dqnkit.config.sections import EvaluationConfig
from dqnkit.evaluation.episodes import Evaluation
from dqnkit.runs.components import Parts
from dqnkit.runs.snapshot import Snapshot

_NO_WEIGHTS: Weights = np.zeros(0, np.float32)


class History:
    """What a training was worth, from its start until now."""

    def __init__(self, parts: Parts, config: EvaluationConfig, before: Snapshot | None) -> None:
        """Plays nothing yet.

        Args:
          parts: Of the run; its loop has the weights that are evaluated.
          config: How many episodes are played.
          before: Of the run that goes on, if it does.
        """
        self._parts = parts
        self._config = config
        self._evaluations = list(before.evaluations) if before else []
        self.best_index = before.best if before else -1
        """Of the best evaluation; -1 before the first."""
        self.best_weights = before.best_weights if before else _NO_WEIGHTS
        """Of the policy that it played."""

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """All, in their order."""
        return tuple(self._evaluations)

    @property
    def best(self) -> Evaluation:
        """The one with the highest mean return; of equals the latest, which has seen more."""
        return self._evaluations[self.best_index]

    def evaluate(self) -> Evaluation:
        """Plays the policy of now."""
        loop = self._parts.loop
        weights = loop.policy_weights()
        self._parts.policy.set_weights(weights)
        returns, lengths = self._parts.evaluator.play(loop.iteration)
        evaluation = _evaluation(returns, lengths, loop.iteration, loop.env_steps)
        self._evaluations.append(evaluation)
        if self.best_index < 0 or evaluation.summary.mean >= self.best.summary.mean:
            self.best_index, self.best_weights = len(self._evaluations) - 1, weights
        return evaluation

    def play_best(self, *, in_full: bool) -> Evaluation:
        """Plays the best policy in episodes that no choice was made by: at negative counters.

        Args:
          in_full: All episodes that are wanted. Otherwise somebody waits: those of one evaluation.
        """
        self._parts.policy.set_weights(self.best_weights)
        size = self._config.num_eval_episodes
        wanted = self._config.final_episodes if in_full else min(size, self._config.final_episodes)
        played = [self._parts.evaluator.play(-1 - batch) for batch in range(-(-wanted // size))]
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
