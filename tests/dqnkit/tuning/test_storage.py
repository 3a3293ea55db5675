from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from dqnkit.errors import ArgumentError, ConfigError, StudyError
from dqnkit.tuning.storage import StudyStorage, check_name, locate_storage
from tests.postgres import PASSWORD, PostgresServer


def _make_study(storage: StudyStorage, name: str) -> None:
    optuna.create_study(storage=storage.open(name), study_name=name)


def test_studies_are_listed_by_name(storage: StudyStorage) -> None:
    assert storage.study_names() == []
    for name in ("b", "a"):
        _make_study(storage, name)
    assert sorted(storage.study_names()) == ["a", "b"]
    loaded = optuna.load_study(study_name="a", storage=storage.open("a"))
    assert loaded.study_name == "a"


def test_one_process_at_a_time_holds_the_lock_of_a_study(storage: StudyStorage) -> None:
    storage.open("s")
    code = """
import sys
import psycopg, sqlalchemy
from dqnkit.tuning.storage import locate_storage
storage = locate_storage(sys.argv[1] or None)
print("asking", flush=True)
with storage.lock("s"):
    print("locked", flush=True)
"""
    url = storage.url.render_as_string(hide_password=False) if storage.url else ""
    with storage.lock("s"):
        other = subprocess.Popen(
            [sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        assert other.stdout.readline() == "asking\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(2)
    out, _ = other.communicate(timeout=60)
    assert out == "locked\n"


@pytest.mark.parametrize("name", ["a", "cartpole-01", "A.b_c-d", "9" * 100])
def test_names_of_studies(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "x" * 101, "a b", "a\n"])
def test_a_name_that_could_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        locate_storage(None).open(name)
    assert caught.value.argument == "study"
    assert not Path("mlruns").exists()


def test_the_embedded_storage_is_a_journal_per_study_beside_the_runs() -> None:
    storage = locate_storage(None)
    _make_study(storage, "mine")
    assert Path("mlruns/studies/mine.journal").is_file()
    assert storage.display_name == "mlruns/studies"
    assert storage.argument is None
    assert (
        storage.dashboard_command("mine")
        == "uvx --with optuna optuna-dashboard mlruns/studies/mine.journal"
    )


def test_a_database_is_named_without_its_password() -> None:
    storage = locate_storage("postgresql://hunter:secret@h/d")
    assert storage.display_name == "postgresql+psycopg://hunter@h/d"
    assert storage.argument == storage.display_name
    assert (
        storage.dashboard_command("mine")
        == f"uvx --with optuna optuna-dashboard {storage.display_name}"
    )


def test_the_url_may_come_from_the_environment(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = postgres.make_database()
    monkeypatch.setenv("DQNKIT_STORAGE", postgres.url(database))
    storage = locate_storage(None)
    assert storage.study_names() == []
    assert storage.display_name == postgres.url(database, password=False)
    assert PASSWORD not in storage.dashboard_command("x")
    assert locate_storage("sqlite:///given.db").display_name == "sqlite:///given.db"


def test_a_folder_that_cannot_be_written_is_named() -> None:
    Path("mlruns").write_text("not a folder", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mlruns/studies cannot be written.*`storage`"):
        locate_storage(None).open("s")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("not-a-url", ArgumentError),
        ("sqlite:////no/such/folder/x.db", StudyError),
        ("postgresql+psycopg://me:secret@127.0.0.1:9/x", StudyError),
        ("nosuchdatabase://x", ArgumentError),
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(
    url: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        locate_storage(url).open("x")
    assert "storage" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ArgumentError, match=r"dqnkit\[postgresql\]") as caught:
        locate_storage("postgresql+psycopg://h/d").open("s")
    assert caught.value.argument == "storage"


def test_errors_of_dqnkit_pass_unchanged() -> None:
    storage = locate_storage(None)
    for error in (ConfigError("a"), StudyError("b")):
        with pytest.raises(type(error)) as caught, storage.wrap_errors():
            raise error
        assert caught.value is error
    message = r"mlruns/studies cannot be used: the disk is gone\."
    with pytest.raises(StudyError, match=message), storage.wrap_errors():
        raise OSError("the disk is gone")


def _journal(torn: bytes) -> Path:
    """Make a study whose journal ends with bytes that are no whole line."""
    storage = locate_storage(None)
    _make_study(storage, "s")
    study = optuna.load_study(study_name="s", storage=storage.open("s"))
    study.add_trial(optuna.trial.create_trial(value=1.0))
    (path,) = Path("mlruns/studies").glob("*.journal")
    with path.open("ab") as file:
        file.write(torn)
    return path


@pytest.mark.parametrize("torn", [b'{"op_code": 4, "wor', b"\x00\x00\x00", b""])
def test_a_torn_last_line_is_removed(torn: bytes) -> None:
    path = _journal(b"")
    whole = path.read_bytes()
    _ = path.write_bytes(whole + torn)
    study = optuna.load_study(study_name="s", storage=locate_storage(None).open("s"))
    assert path.read_bytes() == whole
    study.add_trial(optuna.trial.create_trial(value=2.0))
    again = optuna.load_study(study_name="s", storage=locate_storage(None).open("s"))
    assert [trial.value for trial in again.trials] == [1.0, 2.0]


def test_a_last_line_that_lacks_only_its_break_is_completed() -> None:
    path = _journal(b"")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    study = optuna.load_study(study_name="s", storage=locate_storage(None).open("s"))
    assert path.read_bytes() == whole
    assert len(study.trials) == 1


def test_a_damaged_line_names_the_folder_and_what_to_do() -> None:
    path = _journal(b"")
    path.write_bytes(b"not JSON\n" + path.read_bytes())
    storage = locate_storage(None)
    with (
        pytest.raises(StudyError, match=r"mlruns/studies: restore it, or move it away"),
        storage.wrap_errors(),
    ):
        optuna.load_study(study_name="s", storage=storage.open("s"))
