from __future__ import annotations

import json

import pytest

from dqnkit.runs.sync import SyncedRun, SyncResult
from dqnkit.tracking.location import locate_store
from tests.cli.conftest import Run
from tests.runs import record


def test_nothing_is_pending(run: Run) -> None:
    record()
    name = locate_store().name
    assert run("sync") == (0, f"nothing is pending for {name}\n", "")
    assert run("sync", "--quiet") == (0, "", "")
    assert json.loads(run("sync", "--json")[1]) == {"store": name, "left": 0, "runs": []}


def test_what_was_sent_and_what_is_pending_is_printed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = SyncResult(
        "the-store",
        (
            SyncedRun("one", "cartpole", "out/1", sent=True, what="files"),
            SyncedRun("two", "cartpole", "out/2", sent=True, what=""),
            SyncedRun("three", "x", "out/3", sent=False, what="files", why="see `tracking_uri`"),
        ),
    )
    monkeypatch.setattr("dqnkit.runs.sync.sync", lambda _: result)
    code, out, err = run("sync")
    assert code == 1
    assert out == "one is complete: sent files\ntwo is complete: nothing was missing\n"
    assert err == "warning: three is pending in out/3: see --tracking-uri\n"
    code, out, err = run("sync", "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["left"] == 1
