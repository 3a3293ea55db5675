"""Studies in a storage: opening, searching, and reading the winner."""

from __future__ import annotations

import contextlib
import zlib

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from dqnkit._system.commands import command_line
from dqnkit.config import loading
from dqnkit.errors import ArgumentError, ConfigError, StudyError
from dqnkit.processes import identity
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.definition import StudyDefinition, is_defined
from dqnkit.tuning.storage import StudyStorage
from dqnkit.tuning.study import SharedStudy, StudyPlan


def open_study(
    storage: StudyStorage, name: str, definition: StudyDefinition, plan: StudyPlan
) -> SharedStudy:
    """Open the study of a name, or make it.

    Raises:
      ArgumentError: If the study has another definition; the message lists the differences.
      StudyError: If the storage does not answer.
    """
    with storage.wrap_errors():
        opened = storage.open(name)
        with storage.lock(name):  # two hosts that start together make one study
            study, exists = _open_or_make(opened, name, definition, plan)
    if exists:
        # New draws must differ from earlier ones, and from those of other processes.
        salt = f"{identity.identity()} {len(study.get_trials(deepcopy=False))}"
        study.sampler = plan.make_sampler(zlib.crc32(salt.encode()))
    return SharedStudy(study, definition, plan, storage)


def find_definition(storage: StudyStorage, name: str) -> StudyDefinition | None:
    """Return the definition of a study; None if there is no such study.

    Raises:
      ArgumentError: If dqnkit did not make the study.
      StudyError: If the storage does not answer.
    """
    if name not in storage.study_names():
        return None
    return StudyDefinition.load(_load(storage, name))


def find_unfinished(storage: StudyStorage, definition: StudyDefinition) -> str | None:
    """Return the newest study of a definition that was interrupted; None if there is none.

    Such a study has no winner, no living process works on it, and its name begins with that of the
    experiment.
    """
    found: list[tuple[str, str]] = []
    for name in storage.study_names():
        if not name.startswith(f"{definition.config.name}-"):
            continue
        # Studies of other programs and versions, and incomplete ones, do not match.
        with contextlib.suppress(ConfigError, StudyError):
            study = _load(storage, name)
            attrs = study.user_attrs
            is_active = not identity.is_dead(attrs.get(StudyAttr.OWNER, ""))
            if StudyAttr.WINNER in attrs or is_active:
                continue
            if StudyDefinition.load(study).fingerprint() == definition.fingerprint():
                found.append((str(attrs.get(StudyAttr.CREATED)), name))
    return max(found)[1] if found else None


def load_winner(storage: StudyStorage, name: str) -> str:
    """Return the winning configuration of a study, as YAML.

    Raises:
      ConfigError: If there is no such study, or it has no winner yet.
      StudyError: If the storage does not answer.
    """
    known = storage.study_names()
    resume = command_line("tune", study=name, storage=storage.argument)
    if name not in known:
        listed = f"it has {', '.join(known)}" if known else f"`{resume}` makes one"
        hint = loading.suggestion(name, known)
        raise ConfigError(f"there is no study {name!r}{hint} in {storage.display_name}; {listed}")
    winner = _load(storage, name).user_attrs.get(StudyAttr.WINNER)
    if winner is None:
        raise ConfigError(f"the study {name!r} has no winner yet: `{resume}` continues the search")
    return str(winner)


def _open_or_make(
    opened: BaseStorage, name: str, definition: StudyDefinition, plan: StudyPlan
) -> tuple[optuna.Study, bool]:
    """Return the study, and whether it existed."""
    study = optuna.create_study(
        storage=opened,
        study_name=name,
        direction="maximize",
        sampler=plan.make_sampler(0),
        pruner=plan.pruner,
        load_if_exists=True,
    )
    exists = is_defined(study)
    if exists:
        definition.check_matches(study)
    else:
        _initialize(study, definition)
    study.set_user_attr(StudyAttr.OWNER, identity.identity())
    return study, exists


def _initialize(study: optuna.Study, definition: StudyDefinition) -> None:
    """Enqueue trial 0, and store the definition.

    The first start may have died in here, so the study need not be empty.
    """
    if any(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False)):
        raise ArgumentError(
            "study", study.study_name, "dqnkit did not make this study; choose another name"
        )
    own_params, _ = definition.space.params(definition.config)
    study.enqueue_trial(own_params, skip_if_exists=True)
    definition.save(study)


def _load(storage: StudyStorage, name: str) -> optuna.Study:
    with storage.wrap_errors():
        return optuna.load_study(study_name=name, storage=storage.open(name))
