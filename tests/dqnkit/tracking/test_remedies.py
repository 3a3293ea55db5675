"""The commands that messages print do what they say, as they are printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dqnkit.errors import ConfigError, TrackingError
from dqnkit.tracking.client import connect, make_experiment
from dqnkit.tracking.location import locate_store
from dqnkit.tracking.store import RunStore
from tests.runs import record


def _run_printed(message: str) -> None:
    (command,) = re.findall(r"`(.*?)`", message)
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize("folder", ["mlruns", "a store"])
def test_a_deleted_run_is_restored(folder: str) -> None:
    run_id = record(tracking_uri=folder)
    store = RunStore(locate_store(folder))
    store.client.delete_run(run_id)
    with pytest.raises(ConfigError, match="was deleted in MLflow") as caught:
        store.run(run_id)
    _run_printed(str(caught.value))
    assert store.run(run_id) is not None


def test_a_deleted_experiment_is_restored() -> None:
    record()
    location = locate_store()
    client = connect(location)
    client.delete_experiment(client.get_experiment_by_name("cartpole").experiment_id)
    with pytest.raises(TrackingError, match="was deleted in MLflow") as caught:
        make_experiment(client, location, "cartpole")
    _run_printed(str(caught.value))
    assert make_experiment(client, location, "cartpole")
