from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqnkit.analysis.policy_loading import load_policy
from dqnkit.config import loading
from dqnkit.errors import ArgumentError, ConfigError, PolicyError
from tests.runs import LEAN, record


def _folder() -> Path:
    (found,) = Path("mlruns/artifacts").glob("*/*/artifacts/policy")
    return found


def test_the_policy_of_a_run_acts_on_observations() -> None:
    record(weights=LEAN, with_policy=True)
    policy = load_policy("latest")
    assert policy.spec.id == "CartPole-v1"
    leaning = np.array([[0.0, 0.0, -0.2, -1.0], [0.0, 0.0, 0.2, 1.0]], np.float32)
    assert policy.predict(leaning).tolist() == [0, 1]
    q_values = policy.q_values(leaning).numpy()
    assert q_values.shape == (2, 2)
    assert q_values.argmax(axis=1).tolist() == [0, 1]


def test_a_policy_stays_usable_when_its_files_are_gone() -> None:
    record(weights=LEAN, with_policy=True)
    policy = load_policy("latest")
    _folder().rename("moved")
    assert policy.predict(np.array([[0.0, 0.0, 0.2, 1.0]])).tolist() == [1]
    with pytest.raises(ConfigError, match="has no policy"):
        load_policy("latest")


def test_actions_are_numbered_as_in_the_environment() -> None:
    config = loading.default_config(
        "numbered",
        [
            "env.id=tests.environments:Corridor-v0",
            "env.kwargs={first_action: 5}",
            "network.fc_layer_params=[]",
        ],
    )
    record(config, with_policy=True)
    assert set(load_policy("latest").predict(np.array([[0.0], [-9.0], [9.0]]))) <= {5, 6, 7}


def test_a_folder_needs_no_store_and_a_run_does() -> None:
    record(weights=LEAN, with_policy=True)
    folder = _folder().rename(Path.cwd() / "policy")
    assert load_policy(str(folder), tracking_uri=None).spec.id == "CartPole-v1"
    with pytest.raises(ArgumentError, match="tracking_uri=None: the run 'latest' is in a store"):
        load_policy("latest", tracking_uri=None)


def test_damaged_files_are_an_error() -> None:
    record(weights=LEAN, with_policy=True)
    (_folder() / "artifacts/saved_model/saved_model.pb").write_bytes(b"x")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy("latest")
