from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run, assert_misused, record_solved
from tests.conftest import ROOT
from tests.runs import LEAN, record


def test_the_video_and_its_places_are_printed(run: Run) -> None:
    record_solved()
    code, out, err = run("render", "solved", "--max-steps", "20", "-o", "sub/a.gif")
    assert (code, err) == (0, "")
    assert Path("sub/a.gif").read_bytes().startswith(b"GIF89a")
    assert "31 frames, 1.2 s at 25 fps" in out
    assert "sub/a.gif" in out
    assert "videos/policy-s0-1ep-20steps.gif of the run solved" in out
    code, out, _ = run("render", "solved", "--max-steps", "5", "--no-overlay", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["returns"] == {"trained": [5.0]}
    assert Path(document["path"]).is_file()


def test_a_path_with_a_space_is_printed_unchanged(run: Run) -> None:
    record(weights=LEAN, with_policy=True, tracking_uri="my runs")
    arguments = ("render", "latest", "--max-steps", "2", "--json", "--tracking-uri", "my runs")
    document = json.loads(run(*arguments)[1])
    assert Path(document["path"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["-o", "a.avi"], ["a.avi", ".mp4 or .gif"]),
        (["-o", "a.gif", "--format", "mp4"], ["--output a.gif: ", ".mp4"]),
        (["-o", "file/a.mp4"], ["file/a.mp4 cannot be written", "another file with --output"]),
        (["--format", "avi"], ["--format", "mp4", "gif"]),
    ],
)
def test_wrong_use_is_one_message(run: Run, arguments: list[str], parts: list[str]) -> None:
    record_solved()
    Path("file").touch()
    before = sorted(Path.cwd().rglob("*"))
    assert_misused(run("render", "latest", *arguments), *parts)
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_terminated_rendering_leaves_nothing() -> None:
    record_solved()
    command = [sys.executable, "-c", "from cli.main import main; main()", "render", "latest"]
    process = subprocess.Popen(
        [*command, "-o", "out/a.mp4", "--episodes", "1000"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(Path.cwd().glob("out/.a.*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted\n"
    assert not Path("out").exists()
