"""The standing of a search: numbers of trials by state, and the best complete trials."""

from __future__ import annotations

from dataclasses import dataclass

from optuna.trial import TrialState

from dqnkit.tuning.attributes import INTERRUPTED, TrialAttr
from dqnkit.tuning.space import Values
from dqnkit.tuning.study import SharedStudy


@dataclass(frozen=True)
class TrialScore:
    """A complete trial."""

    number: int
    value: float
    values: Values
    """Configuration values of the trial, by key."""


@dataclass(frozen=True)
class Standing:
    """Numbers of trials by state, and the best complete trial."""

    total: int
    """Number of trials that are to end."""
    complete: int
    pruned: int
    failed: int
    """Number of failed trials, without interrupted ones."""
    best: TrialScore | None

    @property
    def ended(self) -> int:
        """Number of trials that count towards the total."""
        return self.complete + self.pruned


def standing_of(study: SharedStudy) -> Standing:
    """Return the standing of a study."""
    trials = study.trials()
    states = [trial.state for trial in trials]
    ranked = best_trials(study, 1)
    return Standing(
        total=study.total,
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=sum(
            trial.state is TrialState.FAIL and trial.user_attrs.get(TrialAttr.CAUSE) != INTERRUPTED
            for trial in trials
        ),
        best=ranked[0] if ranked else None,
    )


def best_trials(study: SharedStudy, count: int) -> list[TrialScore]:
    """Return the complete trials with the highest values, at most one per configuration.

    Trials of equal value are ranked by the mean of the same episodes, which unlike the
    interquartile mean includes the worst of them, and then by number.
    """
    complete = [trial for trial in study.trials() if trial.state is TrialState.COMPLETE]
    complete.sort(
        key=lambda each: (-(each.value or 0), -each.user_attrs.get(TrialAttr.MEAN, 0), each.number)
    )
    best: list[TrialScore] = []
    for trial in complete:
        if len(best) == count:
            break
        values = study.values(trial.number)
        if all(values != other.values for other in best):
            best.append(TrialScore(trial.number, float(trial.value or 0), values))
    return best
