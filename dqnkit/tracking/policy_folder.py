"""The folder of a saved policy: an MLflow model together with the configuration that plays it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec
from dqnkit.errors import ConfigError, PolicyError
from dqnkit.tracking.names import Artifact

MODEL = Path("MLmodel")
SAVED_MODEL = Path("artifacts/saved_model")
"""Path of TensorFlow's SavedModel in the folder."""
CONFIG = Path("artifacts/config.yaml")
"""Path of the configuration that trained the policy, which names its environment."""


@dataclass(frozen=True)
class PolicyFiles:
    """The files of a policy before they are put into one folder."""

    saved_model: Path
    config: Path
    spec: EnvSpec


class PolicyFolder(NamedTuple):
    """The folder of a policy, checked to be complete."""

    path: Path
    config: Config

    @property
    def saved_model(self) -> Path:
        """Path of TensorFlow's SavedModel."""
        return self.path / SAVED_MODEL


def open_folder(path: Path) -> PolicyFolder:
    """Open the folder of a policy without loading TensorFlow.

    Raises:
      PolicyError: If a file is missing, or the configuration cannot be read.
    """
    for part in (MODEL, CONFIG, SAVED_MODEL / "saved_model.pb"):
        if not (path / part).is_file():
            raise PolicyError(
                f"{path} is not a complete policy of dqnkit: {part} is missing; give a run, or the "
                f"folder {Artifact.POLICY} among its artifacts"
            )
    try:
        text = (path / CONFIG).read_text(encoding="utf-8")
        return PolicyFolder(path.resolve(), loading.load_recorded(text, str(path / CONFIG)))
    except (ConfigError, OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy's configuration cannot be used: {error}") from error
