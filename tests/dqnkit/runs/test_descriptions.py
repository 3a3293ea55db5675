from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import dqnkit
from dqnkit.config.sections import Config
from dqnkit.runs import descriptions
from tests.dqnkit.runs.results import BEST, RESULT

Small = Callable[..., Config]


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        ((), "DQN"),
        (("agent.kind=double_dqn", "network.dueling=true"), "Double DQN, dueling"),
        (
            ("agent.kind=c51", "agent.n_step=3", "replay.kind=prioritized"),
            "C51, 3-step returns, prioritized replay",
        ),
    ],
)
def test_an_agent_is_described_in_the_terms_of_the_field(
    small: Small, assignments: tuple[str, ...], words: str
) -> None:
    assert descriptions.agent(small(*assignments)) == words


def test_names_of_runs_are_readable_and_differ(small: Small) -> None:
    config = small("name=pole", "training.seed=3")
    names = {descriptions.make_run_name(config) for _ in range(8)}
    assert len(names) > 1
    assert all(re.fullmatch(r"pole-s3-[0-9a-f]{4}", name) for name in names)


def test_tags_name_the_origin_of_a_run(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "postgresql://me:secret@host/db"
    monkeypatch.setattr("sys.argv", ["/usr/bin/dqnkit", "train", "my file.yaml", uri])
    tags = descriptions.tags(small("tracking.tags={team: blue}", "training.seed=3"))
    assert tags["team"] == "blue"
    assert tags["dqnkit.kind"] == "training"
    assert tags["dqnkit.version"] == dqnkit.__version__
    assert tags["dqnkit.env"] == "CartPole-v1"
    assert tags["dqnkit.seed"] == "3"
    assert tags["dqnkit.python"] == platform.python_version()
    assert tags["dqnkit.device"].startswith("CPU ")
    assert tags["dqnkit.command"].startswith("dqnkit train 'my file.yaml' ")
    assert "secret" not in str(tags)


def test_own_tags_cannot_replace_those_of_dqnkit(small: Small) -> None:
    config = small("tracking.tags={dqnkit.kind: mine}")
    assert descriptions.tags(config)["dqnkit.kind"] == "training"


def test_tags_name_the_commit_of_the_working_directory(small: Small) -> None:
    assert "dqnkit.git_dirty" not in descriptions.tags(small())  # not in a repository

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "--message", "first")
    tags = descriptions.tags(small())
    assert tags["mlflow.source.git.commit"] == git("rev-parse", "HEAD")
    assert tags["dqnkit.git_dirty"] == "false"
    Path("new").touch()
    assert descriptions.tags(small())["dqnkit.git_dirty"] == "true"


@pytest.mark.parametrize("description", ["", "A **test**."])
def test_a_run_in_training_has_a_description(small: Small, description: str) -> None:
    text = descriptions.opening(small(f"description={description!r}"))
    *own, line = text.split("\n\n")
    assert own == ([description] if description else [])
    assert line == "DQN on **CartPole-v1**, seed 0."


def test_a_finished_run_is_described_by_its_scores(small: Small) -> None:
    text = descriptions.summary(small("description=Mine."), BEST, RESULT.final)
    assert text.startswith("Mine.\n\nDQN on **CartPole-v1**, seed 0.\n\n|")
    # No interval where the episodes were selected by their returns.
    assert "| best, at step 30 | 2 | 6 | 1 | 5 | 7 | 6 |\n" in text
    assert "| that policy again, fresh episodes | 3 | 6.83 | 0.85 | 6 | 8 | 6.67 (6 to 8) |" in text
    assert text.endswith("call `dqnkit train config.yaml`.")


def test_a_run_that_did_not_finish_is_described_by_the_reason(small: Small) -> None:
    error = RuntimeError("out of\n  ice")
    error.add_note("at step 3")
    text = descriptions.interrupted(small(), error)
    assert text.startswith("DQN on **CartPole-v1**, seed 0.\n\n")
    assert text.endswith("This run did not finish: RuntimeError, out of ice; at step 3")
    text = descriptions.interrupted(small(), KeyboardInterrupt())
    assert text.endswith("This run did not finish: KeyboardInterrupt, interrupted")
