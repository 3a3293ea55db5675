"""An embedded store that was moved or copied is read and written in its own folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from dqnkit.tracking.client import connect
from dqnkit.tracking.editor import MlflowRunEditor
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.relocation import follow_folder
from tests.runs import LEAN, record


@pytest.fixture(params=["mlruns", "a store %20 é"])
def folder(request: pytest.FixtureRequest) -> Path:
    """Return the folder of a store with a run, its policy, and a champion."""
    path = Path(request.param).resolve()
    run_id = record(weights=LEAN, with_policy=True, tracking_uri=str(path))
    editor = MlflowRunEditor(locate_store(str(path)), "cartpole")
    assert editor.register(run_id, "a-model", "champion", {}) is not None
    return path


def _run(folder: Path) -> tuple[Any, Any]:
    """Return the client of a store as in a new process, and its run."""
    _artifact_repos_cache.clear()
    client = connect(locate_store(str(folder)))
    ids = [each.experiment_id for each in client.search_experiments()]
    (run,) = client.search_runs(ids)
    return client, run


def _files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("is_copied", [False, True])
def test_everything_is_read_and_written_in_the_new_folder(
    folder: Path, is_copied: bool, tmp_path: Path
) -> None:
    new = tmp_path / "elsewhere" / "store"
    new.parent.mkdir()
    if is_copied:
        shutil.copytree(folder, new)
        before = _files(folder)
    else:
        shutil.move(folder, new)
    client, run = _run(new)
    assert run.info.artifact_uri.startswith((new / "artifacts").as_uri())
    client.log_text(run.info.run_id, "new", "new.txt")
    (written,) = new.glob("artifacts/*/*/artifacts/new.txt")
    assert written.read_text(encoding="utf-8") == "new"
    version = client.get_model_version_by_alias("a-model", "champion")
    path = client.get_model_version_download_uri("a-model", version.version)
    assert path.startswith((new / "artifacts").as_uri())
    experiment = client.get_experiment(run.info.experiment_id)
    later = client.create_run(run.info.experiment_id)
    assert experiment.artifact_location.startswith((new / "artifacts").as_uri())
    assert later.info.artifact_uri.startswith((new / "artifacts").as_uri())
    if is_copied:
        assert _files(folder) == before
        assert _run(folder)[1].info.artifact_uri.startswith((folder / "artifacts").as_uri())
    else:
        assert not folder.exists()


def test_runs_whose_artifacts_stayed_behind_keep_their_addresses(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copyfile(folder / "mlflow.db", tmp_path / "mlflow.db")
    client, run = _run(tmp_path)
    assert run.info.artifact_uri.startswith((folder / "artifacts").as_uri())
    later = client.create_run(run.info.experiment_id)
    assert later.info.artifact_uri.startswith((tmp_path / "artifacts").as_uri())


def test_a_renamed_experiment_and_runs_without_files_follow_too(
    folder: Path, tmp_path: Path
) -> None:
    client, run = _run(folder)
    client.rename_experiment(run.info.experiment_id, "renamed")
    bare = client.create_run(run.info.experiment_id).info.run_id
    shutil.copytree(folder, tmp_path / "copy")
    _artifact_repos_cache.clear()
    client = connect(locate_store(str(tmp_path / "copy")))
    for run_id in (bare, run.info.run_id):
        uri = client.get_run(run_id).info.artifact_uri
        assert uri.startswith((tmp_path / "copy" / "artifacts").as_uri())


def test_mlflows_own_experiment_follows_as_well(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    client = connect(locate_store(str(tmp_path / "copy")))
    address = client.get_experiment("0").artifact_location
    assert address == (tmp_path / "copy" / "artifacts" / "Default").as_uri()


def test_a_folder_that_is_reached_by_two_paths_is_one(folder: Path, tmp_path: Path) -> None:
    _, run = _run(folder)
    (tmp_path / "link").symlink_to(folder)
    location = replace(
        locate_store(str(folder)),
        database=tmp_path / "link" / "mlflow.db",
        artifacts=tmp_path / "link" / "artifacts",
    )
    follow_folder(location)
    assert _run(folder)[1].info.artifact_uri == run.info.artifact_uri


def test_other_experiments_keep_their_addresses(folder: Path, tmp_path: Path) -> None:
    client, _ = _run(folder)
    client.create_experiment("theirs", "file:///data/somewhere")
    client.create_experiment("cloud", "s3://bucket/artifacts/cloud")
    shutil.move(folder, tmp_path / "new")
    client, _ = _run(tmp_path / "new")
    assert client.get_experiment_by_name("theirs").artifact_location == "file:///data/somewhere"
    assert client.get_experiment_by_name("cloud").artifact_location == "s3://bucket/artifacts/cloud"


def test_a_store_that_cannot_be_written_is_left_alone(folder: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.move(folder, new)
    database = new / "mlflow.db"
    content = database.read_bytes()
    database.chmod(0o400)
    new.chmod(0o500)
    try:
        follow_folder(locate_store(str(new)))
    finally:
        new.chmod(0o700)
        database.chmod(0o600)
    assert len(database.read_bytes()) == len(content)
