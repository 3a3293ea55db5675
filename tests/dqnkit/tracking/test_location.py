from __future__ import annotations

from pathlib import Path

import pytest

from dqnkit.errors import ArgumentError, ConfigError
from dqnkit.tracking.location import AUTO, StoreLocation, experiment_url, locate_store


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (AUTO, "sqlite:///{here}/mlruns/mlflow.db"),
        ("", "sqlite:///{here}/mlruns/mlflow.db"),
        ("elsewhere", "sqlite:///{here}/elsewhere/mlflow.db"),
        ("./auto", "sqlite:///{here}/auto/mlflow.db"),
        ("file:elsewhere", "sqlite:///{here}/elsewhere/mlflow.db"),
        ("file:///with%20space", "sqlite:////with space/mlflow.db"),
        ("50%", "sqlite:///{here}/50%25/mlflow.db"),
        ("sqlite:///sub/my.db", "sqlite:///{here}/sub/my.db"),
        ("sqlite:///my.db?timeout=5", "sqlite:///{here}/my.db?timeout=5"),
        ("databricks", "databricks"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg://h/db"),
    ],
)
def test_a_uri_locates_a_store(uri: str, expected: str) -> None:
    assert locate_store(uri).uri == expected.format(here=Path.cwd())


def test_without_a_uri_the_environment_variable_locates_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    for uri in (AUTO, ""):
        assert locate_store(uri).uri == "http://localhost:1"
    assert locate_store("here").uri.endswith("/here/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert locate_store() == locate_store("mlruns")


def test_none_is_no_store() -> None:
    with pytest.raises(ArgumentError) as caught:
        locate_store(None)
    assert (caught.value.argument, caught.value.value) == ("tracking_uri", None)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host", "the scheme 'ftp' is unknown"),
        ("~nobody-of-this-name/runs", "not a valid path"),
        ("a\0b", "not a valid path"),
    ],
)
def test_other_uris_are_refused(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        locate_store(uri)


def test_only_an_embedded_store_is_a_database_file() -> None:
    embedded = locate_store("here")
    assert embedded.database == Path("here/mlflow.db").resolve()
    assert embedded.artifacts == Path("here/artifacts").resolve()
    server, postgres = locate_store("http://host"), locate_store("postgresql://host/db")
    assert server.database is postgres.database is None
    assert server.artifacts is None
    assert postgres.artifacts == Path("mlruns/artifacts").resolve()


def test_an_embedded_store_is_empty_until_its_database_is_made() -> None:
    location = locate_store("here")
    assert location.is_empty
    assert location.make() is location  # a file without contents, which MLflow fills
    assert location.is_empty
    assert location.artifacts is not None
    assert location.artifacts.is_dir()
    assert location.database is not None
    location.database.write_bytes(b"x")
    assert not location.is_empty
    location.make()
    assert location.database.read_bytes() == b"x"
    assert not locate_store("http://host").is_empty


def test_making_the_store_of_a_server_writes_nothing() -> None:
    for uri in ("http://host", "postgresql://host/db", "databricks"):
        locate_store(uri).make()
    assert not list(Path.cwd().iterdir())


def test_a_store_that_cannot_be_written_is_refused() -> None:
    Path("mlruns").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be written"):
        locate_store().make()


def test_what_a_store_has_not_received_waits_beside_it() -> None:
    assert locate_store("here").home == Path("here").resolve()
    for uri in ("http://host", "postgresql://host/db"):
        assert locate_store(uri).home == Path("mlruns").resolve()


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql"])
def test_names_and_commands_are_without_passwords(scheme: str) -> None:
    location = locate_store(f"{scheme}://me:secret@host/db")
    for text in (location.name, location.address or "", location.command_line("sync")):
        assert "secret" not in text
    assert "host/db" in location.name


def test_only_a_server_has_an_address() -> None:
    assert locate_store("http://host:5000/").address == "http://host:5000"
    assert locate_store("databricks").address == "databricks"
    assert locate_store("postgresql://host/db").address is None
    assert locate_store().address is None


def test_commands_name_the_store_unless_it_is_the_default() -> None:
    assert locate_store().command_line("ui").endswith("dqnkit ui")
    line = locate_store("my runs").command_line("train", resume="a'b", seed=None)
    database = Path("my runs/mlflow.db").resolve()
    assert line.endswith(f"dqnkit train --resume 'a'\"'\"'b' --tracking-uri 'sqlite:///{database}'")


def test_the_page_of_an_experiment_shows_charts() -> None:
    path = experiment_url("7")
    assert path.startswith("/#/experiments/7/runs?")
    assert "compareRunsMode=CHART" in path
    assert StoreLocation("http://host", None).address is not None
