"""Shared by all tests: no test touches the caller's store, terminal or network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dqnkit import experiments
from dqnkit.config import Config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def small() -> Callable[..., Config]:
    """A configuration that compiles fast and trains in a blink, with assignments on top."""

    def build(*assignments: str) -> Config:
        return experiments.defaults(
            "small",
            [
                "network.fc_layer_params=[8]",
                "replay.replay_buffer_max_length=500",
                "training.num_iterations=60",
                "training.initial_collect_steps=20",
                "training.batch_size=8",
                "training.log_interval=10",
                "evaluation.num_eval_episodes=4",
                "evaluation.eval_interval=20",
                "evaluation.final_episodes=6",
                *assignments,
            ],
        )

    return build
