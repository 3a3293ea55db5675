from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import main
from dqnkit._system.redaction import holds_password, redact_secrets
from dqnkit.config.sections import Config
from dqnkit.runs.trainer import train
from dqnkit.tracking.mlflow_tracker import MlflowTracker
from tests.processes import client, runs
from tests.runs import make_store


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:secret@host:5000/x", "http://host:5000/x"),
        ("http://token@host", "http://host"),
        ("http://me:sec@ret@host:5000/x", "http://host:5000/x"),
        ("postgresql://me:sec/r@t@host/x", "postgresql://host/x"),
        ("http://host:5000/#/a@b/c", "http://host:5000/#/a@b/c"),
        ("db://h/d?sslpassword=x&SSLPassword=y&a=b", "db://h/d?sslpassword=…&SSLPassword=…&a=b"),
        ("mssql://?odbc_connect=PWD%3Dhidden", "mssql://?odbc_connect=…"),
        (
            "postgresql://host/db?user=a&password=hidden&sslmode=require",
            "postgresql://host/db?user=a&password=…&sslmode=require",
        ),
        ("git@host and a@b.c", "git@host and a@b.c"),
    ],
)
def test_credentials_are_removed_from_uris(text: str, expected: str) -> None:
    assert redact_secrets(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:secret@host/db", True),
        ("postgresql://host/db?user=me&password=secret", True),
        ("postgresql://host/db?sslPassword=secret", True),
        ("postgresql://me@host:5432/db", False),
        ("sqlite:///runs.db", False),
        ("me:secret@host", False),
    ],
)
def test_holds_password_looks_for_passwords_in_uris(text: str, expected: bool) -> None:
    assert holds_password(text) is expected


def test_secrets_of_the_environment_are_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcdefgh12")
    monkeypatch.setenv("PGPASSWORD", "abcdefgh12345")
    monkeypatch.setenv("A_SECRET", "p@ss w/rd%")
    assert redact_secrets("as p%40ss%20w%2Frd%25 or p@ss w/rd%") == "as … or …"
    monkeypatch.setenv("A_PATH", "innocent-text")
    monkeypatch.setenv("USE_TOKEN", "yes")
    text = "abcdefgh12345, abcdefgh12, innocent-text, yes"
    assert redact_secrets(text) == "…, …, innocent-text, yes"


def test_records_contain_no_secrets(
    small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of configuration, command line, tag and description, in the outbox and the store."""
    monkeypatch.setenv("SERVICE_API_KEY", "s3cr3t-value")
    monkeypatch.setattr("sys.argv", ["dqnkit", "train", "--storage=postgresql://me:hidden@host/db"])
    make_store()
    kwargs = "{desc: null, map_name: 4x4}"
    config = small("env.id=FrozenLake-v1", f"env.kwargs={kwargs}").model_copy(
        update={"description": "with s3cr3t-value and http://me:hidden@host"}
    )
    tagged = config.tracking.model_copy(update={"tags": {"key": "s3cr3t-value"}})
    config = config.model_copy(update={"tracking": tagged})
    outboxes: list[str] = []
    finish = MlflowTracker.finish

    def read_and_finish(self: MlflowTracker, *arguments: Any, **named: Any) -> list[str]:
        assert self.folder is not None
        outboxes.append((self.folder / "run.json").read_text(encoding="utf-8"))
        return finish(self, *arguments, **named)

    monkeypatch.setattr(MlflowTracker, "finish", read_and_finish)
    train(config)
    (run,) = runs()
    recorded = str(client().get_run(run.info.run_id).to_dictionary()) + "".join(outboxes)
    assert len(outboxes) == 1
    assert "s3cr3t-value" not in recorded
    assert "hidden" not in recorded


def test_messages_contain_no_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE_API_KEY", "s3cr3t-value")
    for arguments in (["train", "s3cr3t-value"], ["--traceback", "train", "s3cr3t-value"]):
        assert main.run(arguments) == 2
    said = capsys.readouterr().err
    assert "there is no experiment '…'" in said
    assert "Traceback" in said
    assert "s3cr3t-value" not in said
    assert not Path("mlruns").exists()
