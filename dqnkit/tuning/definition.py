"""The definition of a study: everything that decides the values of its trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import optuna
from pydantic import TypeAdapter, ValidationError

from dqnkit import __version__
from dqnkit.config import loading
from dqnkit.config.distributions import SearchSpace
from dqnkit.config.sections import Config
from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.tuning.attributes import StudyAttr
from dqnkit.tuning.space import Space

_SEARCH_SPACE: TypeAdapter[Any] = TypeAdapter(SearchSpace)


@dataclass(frozen=True)
class StudyDefinition:
    """The definition of a study. Trials of different definitions cannot be compared."""

    config: Config
    """The resolved configuration, in which trials change the values of the space."""
    space: Space
    seeds_per_trial: int
    reports_seeds: bool = False
    """True if trials report a value after each seed, instead of after each evaluation."""

    @classmethod
    def load(cls, study: optuna.Study) -> Self:
        """Return the definition that `save` stored in a study.

        Raises:
          ArgumentError: If dqnkit did not make the study, or a version did whose configuration this
            one cannot read.
        """
        attrs = study.user_attrs
        if not is_defined(study):
            raise ArgumentError(
                "study", study.study_name, "dqnkit did not make this study; choose another name"
            )
        try:
            space = Space(_SEARCH_SPACE.validate_python(attrs[StudyAttr.SPACE]))
            experiment = json.dumps(attrs[StudyAttr.EXPERIMENT])
            config = loading.load_recorded(experiment, study.study_name)
        except (ValidationError, ConfigError) as error:
            raise ArgumentError(
                "study",
                study.study_name,
                f"dqnkit {attrs.get(StudyAttr.VERSION)} made this study, and dqnkit {__version__} "
                "cannot read its configuration; choose another name",
            ) from error
        return cls(
            config,
            space,
            int(attrs[StudyAttr.SEEDS_PER_TRIAL]),
            bool(attrs[StudyAttr.REPORTS_SEEDS]),
        )

    def save(self, study: optuna.Study) -> None:
        """Store the definition in a new study."""
        attributes = {
            StudyAttr.CREATED: datetime.now(UTC).isoformat(),
            StudyAttr.VERSION: __version__,
            StudyAttr.EXPERIMENT: self.config.model_dump(mode="json"),
            StudyAttr.SEEDS_PER_TRIAL: self.seeds_per_trial,
            StudyAttr.REPORTS_SEEDS: self.reports_seeds,
            StudyAttr.SPACE: self.space.as_dict(),  # last: `is_defined` looks for it
        }
        for key, value in attributes.items():
            study.set_user_attr(key, value)

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that decides the value of a trial, by key."""
        config = {
            key: value
            for key, value in self.config.flat().items()
            if key != "description" and not key.startswith("tracking.")
        }
        space = {f"search.{key}": value for key, value in self.space.as_dict().items()}
        reports = "after each seed (wilcoxon)" if self.reports_seeds else "after each evaluation"
        options = {"`seeds_per_trial`": self.seeds_per_trial, "reports to `pruner`": reports}
        return {**config, **space, **options}

    def check_matches(self, study: optuna.Study) -> None:
        """Check that a study has this definition.

        Raises:
          ArgumentError: If it has another one; the message lists the differences.
        """
        differences = list_differences(type(self).load(study).fingerprint(), self.fingerprint())
        if differences:
            lines = "\n".join(f"  {each}" for each in differences)
            raise ArgumentError(
                "study",
                study.study_name,
                "this study has another definition, so that its trials cannot be compared:\n"
                f"{lines}\nChoose another name, or the settings of the study",
            )


def is_defined(study: optuna.Study) -> bool:
    """Return whether a study has a complete definition, stored by any version of dqnkit."""
    return StudyAttr.SPACE in study.user_attrs


def list_differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return the differences between two fingerprints, as `key: VALUE in the study, VALUE here`."""
    return [
        f"{key}: {_format(stored.get(key))} in the study, {_format(given.get(key))} here"
        for key in sorted({*stored, *given})
        if stored.get(key) != given.get(key)
    ]


def _format(value: Any) -> str:
    if isinstance(value, dict):  # a distribution, without its optional keys
        value = {k: v for k, v in value.items() if v is not None}
    return "nothing" if value is None else json.dumps(value)
