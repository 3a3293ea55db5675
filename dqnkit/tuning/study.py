"""An Optuna study in which exactly N trials end, however many processes ask, fail or die."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter, ValidationError

from dqnkit import __version__
from dqnkit._system.commands import command_line
from dqnkit.config import loading
from dqnkit.config.distributions import SearchSpace
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, ConfigError, StudyError
from dqnkit.processes import identity
from dqnkit.tuning.heartbeats import PROCESS, TrialHeartbeats
from dqnkit.tuning.space import Params, Space, Values, differences
from dqnkit.tuning.storage import StudyStorage
from dqnkit.workers.seed_jobs import ATTEMPTS

_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

# Attributes of a study.
_EXPERIMENT = "dqnkit.experiment"
_SPACE = "dqnkit.space"
_SEEDS_PER_TRIAL = "dqnkit.seeds_per_trial"
_REPORTS_SEEDS = "dqnkit.reports_seeds"
_OWNER = "dqnkit.process"
_BEGAN = "dqnkit.began"
_VERSION = "dqnkit.version"
RUN_ID = "dqnkit.run_id"
CONFIRMATION = "dqnkit.confirmation"
BEST = "dqnkit.best"
CONCLUDED = "dqnkit.concluded"
# Attributes of a trial; see `liveness` too.
_ATTEMPT = "attempt"
CAUSE = "cause"
RUN = "run_id"
MEAN = "mean"
INTERRUPTED = "interrupted"
"""The cause of a trial that its process could not end; not a failure of its own."""


@dataclass(frozen=True)
class ClaimedTrial:
    """A trial that this process runs."""

    trial: optuna.Trial
    values: Values

    @property
    def number(self) -> int:
        """Of the trial, in the study."""
        return self.trial.number


@dataclass(frozen=True)
class StudyDefinition:
    """What makes a study one: trials of another are no evidence for it."""

    config: Config
    """The experiment, resolved; a trial changes the values of the space in it."""
    space: Space
    seeds_per_trial: int
    reports_seeds: bool = False
    """Whether trials report after each seed, rather than after each evaluation."""


@dataclass(frozen=True)
class StudyPlan:
    """How a study goes on."""

    total: int
    """Trials that are to end."""
    make_sampler: Callable[[int], BaseSampler]
    """Of a number that makes its draws differ from those of others."""
    pruner: BasePruner
    points: Sequence[Params] = ()
    """Of a grid; where there are none, the sampler chooses."""


class SharedStudy:
    """A study that this process works on, perhaps with others.

    A trial counts as claimed while it waits, runs, or has ended; one that failed does not. Trials
    are numbered one after another by the storage, whoever makes them, so a process can tell whether
    its own is one too many: if N with lower numbers are claimed.
    """

    def __init__(
        self,
        study: optuna.Study,
        definition: StudyDefinition,
        plan: StudyPlan,
        storage: StudyStorage,
    ) -> None:
        self.study = study
        self._storage = storage
        self.definition = definition
        self._wanted = plan.total
        self._points = plan.points
        self._liveness = TrialHeartbeats(study)

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
    def total(self) -> int:
        """Trials that are to end: on a grid no more than it has points that can be trained."""
        if not self._points:
            return self._wanted
        used_up = _used_up(self.trials())
        return min(self._wanted, sum(point not in used_up for point in self._points))

    @property
    def is_done(self) -> bool:
        """Whether all have ended."""
        return len(self.ended()) >= self.total

    def ask(self) -> ClaimedTrial | None:
        """The next trial; None while all that may be are claimed."""
        trials = self.trials()
        waiting = any(trial.state is TrialState.WAITING for trial in trials)
        if not waiting:
            if _claimed(trials) >= self.total:
                return None
            self._place_next_point(trials)
        trial = self._liveness.ask()
        try:
            self._liveness.hold(trial)
            if _claimed(self.trials()[: trial.number]) >= self.total:
                self.fail(trial.number, INTERRUPTED)  # others have claimed all by now
                return None
            return ClaimedTrial(trial, self.definition.space.suggest(trial))
        except UpdateFinishedTrialError:  # this process seemed dead for a moment
            self._liveness.let_go(trial)
            return None
        except BaseException:  # whatever it is, nobody else would give the trial back
            self.fail(trial.number, INTERRUPTED, again=True, counts=False)
            raise

    def fail(
        self, number: int, cause: str, *, again: bool = False, counts: bool = True
    ) -> bool | None:
        """Marks a running trial as failed.

        Args:
          number: Of it.
          cause: Why.
          again: Let the same parameters be tried again, up to `ATTEMPTS` times.
          counts: Whether this was an attempt; an interruption is none.

        Returns:
          Whether they will be; None if another process was first to end it.
        """
        trial = self.trials()[number]
        self._liveness.let_go(trial)
        try:
            # An `optuna.Trial`, which has a public way, would choose parameters as it is made.
            self.study._storage.set_trial_user_attr(trial._trial_id, CAUSE, cause)
            self.study.tell(number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return None
        attempt = int(trial.user_attrs.get(_ATTEMPT, 1)) + counts
        if not again or attempt > ATTEMPTS:
            return False
        self.study.enqueue_trial(_params(trial), user_attrs={_ATTEMPT: attempt})
        return True

    def tell(self, claim: ClaimedTrial, value: float | None) -> bool:
        """Ends a trial as complete with a value, or as pruned.

        Returns:
          Whether it was still this process's: others fail a trial whose process seems dead, and
          run it again.
        """
        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        try:
            self.study.tell(claim.trial, value, state)
        except (UpdateFinishedTrialError, ValueError):
            told = self.trials()[claim.number].state
            if not told.is_finished():
                raise
            return told is state  # the answer to a first try was lost
        finally:
            self._liveness.let_go(claim.trial)
        return True

    def report(self, claim: ClaimedTrial, value: float, step: int) -> bool:
        """Reports how a trial does; whether it is still this process's (see `tell`)."""
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.report(value, step)
            return True
        return False

    def note(self, claim: ClaimedTrial, key: str, value: Any) -> bool:
        """Keeps something with a trial; whether it is still this process's (see `tell`)."""
        with contextlib.suppress(UpdateFinishedTrialError):
            claim.trial.set_user_attr(key, value)
            return True
        return False

    def let_go(self, claim: ClaimedTrial) -> None:
        """Says no more that this process runs a trial."""
        self._liveness.let_go(claim.trial)

    def reap(self) -> list[FrozenTrial]:
        """Fails the trials whose process has died, and lets them be tried again.

        Returns:
          Those trials.
        """
        return [
            trial
            for trial in self._liveness.abandoned(self.trials())
            if self.fail(trial.number, INTERRUPTED, again=True, counts=False)
        ]

    def running_elsewhere(self) -> list[FrozenTrial]:
        """The trials that other processes run."""
        mine = identity.identity()
        return [
            trial
            for trial in self.trials()
            if trial.state is TrialState.RUNNING and trial.user_attrs.get(PROCESS) != mine
        ]

    def another_at_work(self) -> str | None:
        """A living process that runs one of its trials, this one aside; None if there is none."""
        running = self.running_elsewhere()
        dead = {trial.number for trial in self._liveness.abandoned(running)}
        found = [t.user_attrs.get(PROCESS) for t in running if t.number not in dead]
        return next((process for process in found if process is not None), None)

    def values(self, number: int) -> Values:
        """What a trial changes in the experiment."""
        return self.definition.space.suggest(optuna.trial.FixedTrial(self.trials()[number].params))

    def configuration(self, number: int) -> Config:
        """The experiment with the values of a trial."""
        return self.definition.space.configure(self.definition.config, self.values(number))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time, of all that work on it; for what is short."""
        with contextlib.ExitStack() as held:
            with self._storage.explained():
                held.enter_context(self._storage.locked(self.name))
            yield

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
        taken = [_params(trial) for trial in trials if trial.state is not TrialState.FAIL]
        taken += _used_up(trials)
        free = next((point for point in self._points if point not in taken), None)
        if free is not None:
            self.study.enqueue_trial(free)


def open_study(
    storage: StudyStorage, name: str, definition: StudyDefinition, plan: StudyPlan
) -> SharedStudy:
    """Makes a study, or goes on with the one of this name.

    Raises:
      ConfigError: The study has another definition; the message shows the difference.
      StudyError: The storage does not answer.
    """
    with storage.explained():
        opened = storage.open(name)
        with storage.locked(name):  # of two hosts that begin it together one makes it
            study, exists = _open(opened, name, storage.place, definition, plan)
    if exists:  # what is drawn must be neither what was drawn before nor what others draw
        start = f"{identity.identity()} {len(study.get_trials(deepcopy=False))}"
        study.sampler = plan.make_sampler(zlib.crc32(start.encode()))
    return SharedStudy(study, definition, plan, storage)


def _open(
    opened: BaseStorage, name: str, place: str, definition: StudyDefinition, plan: StudyPlan
) -> tuple[optuna.Study, bool]:
    """The study, and whether it was there."""
    study = optuna.create_study(
        storage=opened,
        study_name=name,
        direction="maximize",
        sampler=plan.make_sampler(0),
        pruner=plan.pruner,
        load_if_exists=True,
    )
    exists = _SPACE in study.user_attrs
    if exists:
        _refuse_another(study, definition)
    elif any(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False)):
        raise ConfigError(
            f"the study {name!r} in {place} is not one of dqnkit: name another with `study`"
        )
    else:
        own, _ = definition.space.params(definition.config)
        study.enqueue_trial(own, skip_if_exists=True)
        for key, value in _written(definition).items():
            study.set_user_attr(key, value)
    study.set_user_attr(_OWNER, identity.identity())
    return study, exists


def find_definition(storage: StudyStorage, name: str) -> StudyDefinition | None:
    """The definition of the study of this name; None where there is none.

    Raises:
      ConfigError: The study is not one of ours.
    """
    if name not in storage.names():
        return None
    return _read(_load(storage, name))


def find_unfinished(storage: StudyStorage, definition: StudyDefinition) -> str | None:
    """The study of this definition that was begun last and interrupted; None if there is none.

    One is unfinished that has no winner yet, and that no living process works on.
    """
    found: list[tuple[str, str]] = []
    for name in storage.names():
        if not name.startswith(f"{definition.config.name}-"):
            continue
        # One of another version, of somebody else, or without a first line is none.
        with contextlib.suppress(ConfigError, StudyError):
            study = _load(storage, name)
            attrs = study.user_attrs
            if BEST in attrs or not identity.is_dead(attrs.get(_OWNER, "")):
                continue
            if _fingerprint(_read(study)) == _fingerprint(definition):
                found.append((str(attrs.get(_BEGAN)), name))
    return max(found)[1] if found else None


def winner(storage: StudyStorage, name: str) -> str:
    """The winning configuration of a study, as YAML.

    Raises:
      ConfigError: There is no such study, or it has no winner yet.
    """
    known = storage.names()
    if name not in known:
        listed = f"; there are: {', '.join(known)}" if known else "; `dqnkit tune` makes one"
        raise ConfigError(
            f"there is no study {name!r}{loading.suggestion(name, known)} in {storage.place}{listed}"
        )
    best = _load(storage, name).user_attrs.get(BEST)
    if best is None:
        raise ConfigError(
            f"the study {name!r} has no winner yet: `{command_line('tune', study=name)}` continues it"
        )
    return str(best)


def _load(storage: StudyStorage, name: str) -> optuna.Study:
    with storage.explained():
        return optuna.load_study(study_name=name, storage=storage.open(name))


def _params(trial: FrozenTrial) -> Params:
    """A trial's parameters; one that died early had not taken up all that was fixed for it."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _used_up(trials: Sequence[FrozenTrial]) -> list[Params]:
    """Parameters that were tried and given up: by no fault from outside, or too often."""
    failed = [t for t in trials if t.state is TrialState.FAIL and t.user_attrs.get(CAUSE)]
    others = [_params(t) for t in trials if t.state is not TrialState.FAIL]
    given_up = [_params(t) for t in failed if t.user_attrs[CAUSE] != INTERRUPTED]
    return [params for params in given_up if params not in others]


def _claimed(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state is not TrialState.FAIL for trial in trials)


def _written(definition: StudyDefinition) -> dict[str, Any]:
    """A definition as attributes of a study."""
    return {
        _BEGAN: datetime.now(UTC).isoformat(),
        _VERSION: __version__,
        _EXPERIMENT: definition.config.model_dump(mode="json"),
        _SEEDS_PER_TRIAL: definition.seeds_per_trial,
        _REPORTS_SEEDS: definition.reports_seeds,
        _SPACE: definition.space.as_dict(),  # the last, which says that all is there
    }


def _read(study: optuna.Study) -> StudyDefinition:
    """The inverse of `_written`."""
    attrs = study.user_attrs
    if _SPACE not in attrs:
        raise ConfigError(
            f"the study {study.study_name!r} is not one of dqnkit: name another with `study`"
        )
    try:
        space = TypeAdapter(SearchSpace).validate_python(attrs[_SPACE])
        config = loading.load_recorded(json.dumps(attrs[_EXPERIMENT]), study.study_name)
    except (ValidationError, ConfigError) as error:
        raise ConfigError(
            f"the study {study.study_name!r} was made by dqnkit {attrs.get(_VERSION)}, whose "
            f"configuration {__version__} cannot read: name another with `study`"
        ) from error
    return StudyDefinition(
        config, Space(space), int(attrs[_SEEDS_PER_TRIAL]), bool(attrs[_REPORTS_SEEDS])
    )


def _fingerprint(definition: StudyDefinition) -> dict[str, Any]:
    """What decides the value of a trial, by key."""
    config = {
        key: value
        for key, value in definition.config.flat().items()
        if key != "description" and not key.startswith("tracking.")
    }
    space = {f"search.{key}": value for key, value in definition.space.as_dict().items()}
    reports = "after each seed (wilcoxon)" if definition.reports_seeds else "after each evaluation"
    options = {"seeds_per_trial": definition.seeds_per_trial, "pruner, reports": reports}
    return {**config, **space, **options}


def _refuse_another(study: optuna.Study, definition: StudyDefinition) -> None:
    differing = differences(_fingerprint(_read(study)), _fingerprint(definition))
    if differing:
        lines = "\n".join(f"  {each}" for each in differing)
        raise ArgumentError(
            "study",
            study.study_name,
            "the study has another definition, so that its trials are no evidence here:\n"
            f"{lines}\nChoose another study, or the definition of this one",
        )
