"""An Optuna study in which exactly N trials end, however many processes ask, fail or die."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter, ValidationError

from dqnkit import __version__, experiments
from dqnkit.config import Config
from dqnkit.distributions import SearchSpace
from dqnkit.errors import ConfigError
from dqnkit.tracking import processes
from dqnkit.tuning.space import Params, Space, Values, differences
from dqnkit.tuning.storage import StudyStorage

ATTEMPTS = 3
"""How often a trial is tried whose process dies, or that fails for a reason outside it."""
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

# Attributes of a study.
_EXPERIMENT = "dqnkit.experiment"
_SPACE = "dqnkit.space"
_SEEDS_PER_TRIAL = "dqnkit.seeds_per_trial"
_OWNER = "dqnkit.process"
_BEGAN = "dqnkit.began"
_VERSION = "dqnkit.version"
RUN_ID = "dqnkit.run_id"
CONFIRMATION = "dqnkit.confirmation"
BEST = "dqnkit.best"
# Attributes of a trial.
_PROCESS = "process"
_ATTEMPT = "attempt"
CAUSE = "cause"
RUN = "run_id"
MEAN = "mean"
INTERRUPTED = "interrupted"
"""The cause of a trial that its process could not end; not a failure of its own."""


@dataclass(frozen=True)
class Claim:
    """A trial that this process runs."""

    trial: optuna.Trial
    values: Values

    @property
    def number(self) -> int:
        """Of the trial, in the study."""
        return self.trial.number


@dataclass(frozen=True)
class Purpose:
    """What makes a study one: trials of another are no evidence for it."""

    config: Config
    """The experiment, resolved; a trial changes the values of the space in it."""
    space: Space
    seeds_per_trial: int


@dataclass(frozen=True)
class Plan:
    """How a study goes on."""

    total: int
    """Trials that are to end."""
    sampler: BaseSampler
    pruner: BasePruner
    points: Sequence[Params] = ()
    """Of a grid; where there are none, the sampler chooses."""


class SharedStudy:
    """A study that this process works on, perhaps with others.

    A trial counts as claimed while it waits, runs, or has ended; one that failed does not. Trials
    are numbered one after another by the storage, whoever makes them, so a process can tell whether
    its own is one too many: if N with lower numbers are claimed.
    """

    def __init__(self, study: optuna.Study, purpose: Purpose, plan: Plan) -> None:
        self.study = study
        self.purpose = purpose
        self.total = plan.total
        self._points = plan.points

    @property
    def name(self) -> str:
        """Of the study."""
        return self.study.study_name

    def trials(self) -> list[FrozenTrial]:
        """All, by number; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def ended(self) -> list[FrozenTrial]:
        """Those that count: complete or pruned."""
        return [trial for trial in self.trials() if trial.state in _ENDED]

    @property
    def is_done(self) -> bool:
        """Whether all have ended."""
        return len(self.ended()) >= self.total

    def ask(self) -> Claim | None:
        """The next trial; None while all that may be are claimed."""
        trials = self.trials()
        waiting = any(trial.state is TrialState.WAITING for trial in trials)
        if not waiting:
            if _claimed(trials) >= self.total:
                return None
            self._place_next_point(trials)
        trial = self.study.ask()
        trial.set_user_attr(_PROCESS, processes.identity())
        if _claimed(self.trials()[: trial.number]) >= self.total:
            self.fail(trial.number, INTERRUPTED)  # others have claimed all by now
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ranges that no step divides
            return Claim(trial, self.purpose.space.suggest(trial))

    def fail(self, number: int, cause: str, *, again: bool = False, counts: bool = True) -> bool:
        """Marks a running trial as failed.

        Args:
          number: Of it.
          cause: Why.
          again: Let the same parameters be tried again, up to `ATTEMPTS` times.
          counts: Whether this was an attempt; an interruption is none.

        Returns:
          Whether they will be.
        """
        trial = self.trials()[number]
        self.study._storage.set_trial_user_attr(trial._trial_id, CAUSE, cause)
        self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
        attempt = int(trial.user_attrs.get(_ATTEMPT, 1)) + counts
        if not again or attempt > ATTEMPTS:
            return False
        self.study.enqueue_trial(dict(trial.params), user_attrs={_ATTEMPT: attempt})
        return True

    def reap(self) -> list[FrozenTrial]:
        """Fails the trials whose process has died, and lets them be tried again.

        Returns:
          Those trials.
        """
        found = [
            trial
            for trial in self.trials()
            if trial.state is TrialState.RUNNING
            and processes.is_dead(trial.user_attrs.get(_PROCESS, ""))
        ]
        for trial in found:
            self.fail(trial.number, INTERRUPTED, again=True, counts=False)
        return found

    def values(self, number: int) -> Values:
        """What a trial changes in the experiment."""
        return self.purpose.space.suggest(optuna.trial.FixedTrial(self.trials()[number].params))

    def configuration(self, number: int) -> Config:
        """The experiment with the values of a trial."""
        return self.purpose.space.configure(self.purpose.config, self.values(number))

    def remember(self, key: str, value: Any) -> None:
        """Keeps something with the study."""
        self.study.set_user_attr(key, value)

    def recall(self, key: str) -> Any:
        """What was kept; None if nothing was."""
        return self.study.user_attrs.get(key)

    def _place_next_point(self, trials: Sequence[FrozenTrial]) -> None:
        """Puts the first point of the grid that nobody has claimed where `ask` finds it."""
        if not self._points:
            return
        claimed = [
            trial.system_attrs.get("fixed_params") or trial.params
            for trial in trials
            if trial.state is not TrialState.FAIL
        ]
        free = next((point for point in self._points if point not in claimed), None)
        if free is not None:
            self.study.enqueue_trial(free)


def open_study(storage: StudyStorage, name: str, purpose: Purpose, plan: Plan) -> SharedStudy:
    """Makes a study, or goes on with the one of this name.

    Raises:
      ConfigError: The study has another purpose; the message shows the difference.
      StudyError: The storage does not answer.
    """
    with storage.explained():
        study = optuna.create_study(
            storage=storage.open(name),
            study_name=name,
            direction="maximize",
            sampler=plan.sampler,
            pruner=plan.pruner,
            load_if_exists=True,
        )
        if _SPACE in study.user_attrs:
            _refuse_another(study, purpose)
        elif any(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False)):
            raise ConfigError(
                f"the study {name!r} in {storage.place} is not one of dqnkit: name another by "
                "--study"
            )
        else:
            own, _ = purpose.space.params(purpose.config)
            study.enqueue_trial(own, skip_if_exists=True)
            for key, value in _written(purpose).items():
                study.set_user_attr(key, value)
        study.set_user_attr(_OWNER, processes.identity())
    return SharedStudy(study, purpose, plan)


def find_purpose(storage: StudyStorage, name: str) -> Purpose | None:
    """The purpose of the study of this name; None where there is none.

    Raises:
      ConfigError: The study is not one of ours.
    """
    if name not in storage.names():
        return None
    return _read(_load(storage, name))


def find_unfinished(storage: StudyStorage, purpose: Purpose) -> str | None:
    """The study of this purpose that was begun last and interrupted; None if there is none.

    One is unfinished that has no winner yet, and that no living process works on.
    """
    found: list[tuple[str, str]] = []
    for name in storage.names():
        if not name.startswith(f"{purpose.config.name}-"):
            continue
        study = _load(storage, name)
        attrs = study.user_attrs
        if BEST in attrs or not processes.is_dead(attrs.get(_OWNER, "")):
            continue
        if _fingerprint(_read(study)) == _fingerprint(purpose):
            found.append((str(attrs.get(_BEGAN)), name))
    return max(found)[1] if found else None


def winner(storage: StudyStorage, name: str) -> str:
    """The winning configuration of a study, as YAML.

    Raises:
      ConfigError: There is no such study, or it has no winner yet.
    """
    known = storage.names()
    if name not in known:
        listed = f"; there are: {', '.join(known)}" if known else ""
        raise ConfigError(
            f"there is no study {name!r}{experiments.nearest(name, known)} in "
            f"{storage.place}{listed}"
        )
    best = _load(storage, name).user_attrs.get(BEST)
    if best is None:
        raise ConfigError(
            f"the study {name!r} has no winner yet: `dqnkit tune --study {name}` goes on with it"
        )
    return str(best)


def _load(storage: StudyStorage, name: str) -> optuna.Study:
    with storage.explained():
        return optuna.load_study(study_name=name, storage=storage.open(name))


def _claimed(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state is not TrialState.FAIL for trial in trials)


def _written(purpose: Purpose) -> dict[str, Any]:
    """A purpose as attributes of a study."""
    return {
        _BEGAN: datetime.now(UTC).isoformat(),
        _VERSION: __version__,
        _EXPERIMENT: purpose.config.model_dump(mode="json"),
        _SEEDS_PER_TRIAL: purpose.seeds_per_trial,
        _SPACE: purpose.space.as_dict(),  # the last, which says that all is there
    }


def _read(study: optuna.Study) -> Purpose:
    """The inverse of `_written`."""
    attrs = study.user_attrs
    if _SPACE not in attrs:
        raise ConfigError(
            f"the study {study.study_name!r} is not one of dqnkit: name another by --study"
        )
    try:
        space = TypeAdapter(SearchSpace).validate_python(attrs[_SPACE])
        config = Config.model_validate(attrs[_EXPERIMENT])
    except ValidationError as error:
        raise ConfigError(
            f"the study {study.study_name!r} was made by dqnkit {attrs.get(_VERSION)}, whose "
            f"configuration {__version__} cannot read: name another by --study"
        ) from error
    return Purpose(config, Space(space), int(attrs[_SEEDS_PER_TRIAL]))


def _fingerprint(purpose: Purpose) -> dict[str, Any]:
    """What decides the value of a trial, by key."""
    config = {
        key: value
        for key, value in purpose.config.flat().items()
        if key != "description" and not key.startswith("tracking.")
    }
    space = {f"search.{key}": value for key, value in purpose.space.as_dict().items()}
    return {**config, **space, "--seeds-per-trial": purpose.seeds_per_trial}


def _refuse_another(study: optuna.Study, purpose: Purpose) -> None:
    differing = differences(_fingerprint(_read(study)), _fingerprint(purpose))
    if differing:
        lines = "\n".join(f"  {each}" for each in differing)
        raise ConfigError(
            f"--study {study.study_name}: was made for something else, and its trials would be no "
            f"evidence here:\n{lines}\nName another study, or take what it was made for"
        )
