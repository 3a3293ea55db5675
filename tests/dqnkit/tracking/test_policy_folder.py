from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.errors import PolicyError
from dqnkit.tracking.policy_folder import CONFIG, MODEL, SAVED_MODEL, open_folder

Small = Callable[..., Config]


@pytest.fixture
def folder(small: Small) -> Path:
    """A folder that is complete; its SavedModel is not loaded."""
    folder = Path("a policy")
    (folder / SAVED_MODEL).mkdir(parents=True)
    (folder / MODEL).touch()
    (folder / SAVED_MODEL / "saved_model.pb").touch()
    (folder / CONFIG).write_text(loading.dump(small("training.seed=3")), encoding="utf-8")
    return folder


def test_a_complete_folder_holds_a_policy_and_its_configuration(folder: Path, small: Small) -> None:
    policy = open_folder(folder)
    assert policy.path == folder.resolve()  # wherever it is read later
    assert policy.saved_model == folder.resolve() / "artifacts/saved_model"
    assert policy.config == small("training.seed=3")


@pytest.mark.parametrize("part", [MODEL, CONFIG, SAVED_MODEL / "saved_model.pb"])
def test_a_missing_file_is_named(folder: Path, part: Path) -> None:
    (folder / part).unlink()
    with pytest.raises(PolicyError, match=f"is not a complete policy of dqnkit: {part} is missing"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"agent: {gama: 0.9}", "gama"),
        (b"agent: {", "config.yaml"),
        (b"\xff\xfe\xfa", "decode"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_an_error(
    folder: Path, content: bytes, problem: str
) -> None:
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(PolicyError, match="the policy's configuration cannot be used") as caught:
        open_folder(folder)
    assert problem in str(caught.value)
