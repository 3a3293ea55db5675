"""A policy's folder: an MLflow model, with what plays it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError, PolicyError

MODEL = Path("MLmodel")
SAVED_MODEL = Path("artifacts/saved_model")
"""TensorFlow's SavedModel, in the policy's folder."""
CONFIG = Path("artifacts/config.yaml")
"""The configuration that trained it, which says what environment it plays."""


@dataclass(frozen=True)
class PolicyFiles:
    """A saved policy and what its users must know of it, before they are a folder."""

    saved_model: Path
    config: Path
    spec: EnvSpec


class PolicyFolder(NamedTuple):
    """A policy's folder that was found whole."""

    path: Path
    config: Config

    @property
    def saved_model(self) -> Path:
        """TensorFlow's SavedModel."""
        return self.path / SAVED_MODEL


def open_folder(path: Path) -> PolicyFolder:
    """Looks at a policy's folder without loading TensorFlow.

    Raises:
      PolicyError: A file is missing, or the configuration in it cannot be read.
    """
    for part in (MODEL, CONFIG, SAVED_MODEL / "saved_model.pb"):
        if not (path / part).is_file():
            raise PolicyError(
                f"{path}: is no policy of dqnkit, or is not whole: {part} is missing; give a run, "
                "or the folder `policy` of one"
            )
    try:
        text = (path / CONFIG).read_text(encoding="utf-8")
        return PolicyFolder(path, loading.load_recorded(text, str(path / CONFIG)))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy's configuration cannot be used: {error}") from error
