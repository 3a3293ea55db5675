"""Recovery of learner, actors and replay server when one of their processes is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.dqnkit.replay.host_replays import needs_reverb
from tests.processes import Training, points, runs
from tests.servers import free_port

pytestmark = [pytest.mark.slow, needs_reverb]

ITERATIONS = 12_000
SHORT = [
    *("--set", f"training.num_iterations={ITERATIONS}", "--set", "evaluation.eval_interval=2000"),
    *("--set", "training.checkpoint_interval=1000", "--set", "evaluation.final_episodes=20"),
]
SLACK = 250
"""Environment steps by which a run may miss its ratio; Reverb's rate limiter allows for 200."""


@pytest.fixture
def start() -> Iterator[Callable[..., Training]]:
    """Start commands, which are killed at the end of the test."""
    with ExitStack() as started:

        def start_command(*arguments: str) -> Training:
            training = Training(*arguments)
            started.callback(_kill, training)
            return training

        yield start_command


def _kill(training: Training) -> None:
    for process in _family(training):
        process.kill()


def _family(training: Training) -> list[psutil.Process]:
    try:
        parent = psutil.Process(training.process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _actors(training: Training) -> list[psutil.Process]:
    return [each for each in _family(training) if "spawn_main" in " ".join(each.cmdline())]


def _have_ended(processes: list[psutil.Process], seconds: float = 15.0) -> bool:
    _, alive = psutil.wait_procs(processes, seconds)
    return not alive


def _steps(run: Any) -> list[int]:
    return [step for step, _ in points(run)["eval/return_mean"]]


def _wait_for_learner(address: str) -> None:
    """Wait until a learner publishes its weights steadily, which it does once it has compiled."""
    from dqnkit.reverb.connection import ServerConnection
    from dqnkit.reverb.tables import LEARNER

    server = ServerConnection(address)

    def published() -> int:
        return int(server.info(LEARNER).rate_limiter_info.insert_stats.completed)

    deadline = time.monotonic() + 60
    steady = 0
    while steady < 10:
        assert time.monotonic() < deadline, "no learner publishes"
        before = published()
        time.sleep(0.1)
        steady = steady + 1 if published() > before else 0
    server.close()


def test_a_killed_actor_is_replaced(
    start: Callable[..., Training], tally: Callable[..., None]
) -> None:
    training = start("train", "tutorial-reverb", "--actors", "2", *SHORT)
    assert training.wait_for(" loss ")
    first, second = _actors(training)
    first.kill()
    tally("actors killed")
    assert training.wait_for("actor 0 is replaced"), training.output
    assert len(_actors(training)) == 2
    assert second in _actors(training)
    assert training.ended() == 0, training.output
    assert "signal 9" in training.output
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert _steps(run)[-1] == pytest.approx(ITERATIONS + 100, abs=SLACK)
    episodes = points(run)["train/episodes"]
    assert sum(count for _, count in episodes) > 20
    assert _have_ended([second])


def test_the_actors_of_a_killed_learner_end_and_its_run_is_resumed(
    start: Callable[..., Training], tally: Callable[..., None]
) -> None:
    training = start("train", "tutorial-reverb", "--actors", "2", *SHORT)
    assert training.wait_for(" loss ")
    actors = _actors(training)
    assert len(actors) == 2
    training.end(signal.SIGKILL)
    tally("learners killed")
    assert _have_ended(actors)
    resumed = start("train", "--resume", "latest")
    assert resumed.ended() == 0, resumed.output
    assert "continues at iteration" in resumed.output
    (run,) = runs()
    assert run.info.status == "FINISHED"
    steps = _steps(run)
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(ITERATIONS + 100, abs=2 * SLACK)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_learner_that_waits_for_actors_handles_signals(
    start: Callable[..., Training], number: signal.Signals
) -> None:
    """The signal comes before the first actor has started, and after the last one has ended."""
    port = free_port()
    server = start("replay-server", "tutorial-reverb", "--port", str(port), *SHORT)
    assert server.wait_for("Ctrl-C ends it")
    remote = ("--actors", "0", "--set", f"replay.address=127.0.0.1:{port}")
    training = start("train", "tutorial-reverb", *remote, *SHORT)
    assert training.wait_for("run tutorial-reverb-s0")
    time.sleep(5)
    began = time.monotonic()
    assert training.end(number) == 130, training.output
    resumed = start("train", "--resume", "latest")
    actor = start("actor", "--connect", f"127.0.0.1:{port}")
    assert resumed.wait_for(" loss "), resumed.output
    actor.end(signal.SIGKILL)
    time.sleep(3)
    assert resumed.end(number) == 130, resumed.output
    assert "--resume" in resumed.output
    assert time.monotonic() < began + 120
    assert runs()[0].info.status == "KILLED"
    start("actor", "--connect", f"127.0.0.1:{port}")
    last = start("train", "--resume", "latest")
    assert last.ended() == 0, last.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_learner_ends_its_actors_and_its_run_is_resumed(
    start: Callable[..., Training], number: signal.Signals
) -> None:
    training = start("train", "tutorial-reverb", "--actors", "1", *SHORT)
    assert training.wait_for(" loss ")
    actors = _actors(training)
    assert training.end(number) == 130
    assert "--resume" in training.output
    assert "Traceback" not in training.output
    assert _have_ended(actors)
    resumed = start("train", "--resume", "latest")
    assert resumed.ended() == 0, resumed.output
    assert runs()[0].info.status == "FINISHED"


def test_remote_actors_wait_until_the_run_of_a_killed_learner_is_resumed(
    start: Callable[..., Training], tally: Callable[..., None]
) -> None:
    """Server and actors are separate commands, as on other hosts."""
    port = free_port()
    server = start("replay-server", "tutorial-reverb", "--port", str(port), *SHORT)
    assert server.wait_for("Ctrl-C ends it")
    remote = ("--set", f"replay.address=127.0.0.1:{port}")
    actors = [start("actor", "--connect", f"127.0.0.1:{port}") for _ in range(2)]
    training = start("train", "tutorial-reverb", "--actors", "0", *remote, *SHORT)
    assert training.wait_for(" loss "), training.output
    training.end(signal.SIGKILL)
    tally("learners killed")
    time.sleep(3)
    assert all(actor.process.poll() is None for actor in actors)
    resumed = start("train", "--resume", "latest")
    assert resumed.ended() == 0, resumed.output
    for actor in actors:
        assert actor.ended(30) == 0, actor.output
        assert "the run is complete" in actor.output
        assert "Traceback" not in actor.output
    (run,) = runs()
    assert run.info.status == "FINISHED"
    again = start("train", "tutorial-reverb", "--actors", "0", *remote, *SHORT)
    assert again.ended() == 2
    assert "transitions of another run" in again.output
    assert len(runs()) == 1
    assert server.end(signal.SIGTERM) == 0


def test_a_second_learner_is_rejected_while_the_first_trains(
    start: Callable[..., Training],
) -> None:
    port = free_port()
    server = start("replay-server", "tutorial-reverb", "--port", str(port), *SHORT)
    assert server.wait_for("Ctrl-C ends it")
    remote = ("--actors", "0", "--set", f"replay.address=127.0.0.1:{port}")
    first = start("train", "tutorial-reverb", *remote, *SHORT)
    _wait_for_learner(f"127.0.0.1:{port}")
    second = start("train", "tutorial-reverb", *remote, *SHORT, "--seed", "7")
    assert second.ended(60) == 2, second.output
    assert "another learner trains with the server" in second.output
    assert first.end(signal.SIGINT) == 130
    actor = start("actor", "--connect", f"127.0.0.1:{port}")
    time.sleep(8)
    assert "acting" not in actor.output  # there is no learner
    third = start("train", "tutorial-reverb", *remote, *SHORT, "--seed", "7")
    assert third.ended() == 0, third.output
    assert actor.ended(30) == 0, actor.output
    assert len(runs()) == 2  # the second learner recorded none


def test_a_killed_server_is_restarted_with_its_checkpoint(
    start: Callable[..., Training], tally: Callable[..., None]
) -> None:
    port = free_port()
    serve = ("replay-server", "tutorial-reverb", "--port", str(port), "--checkpoints", "kept")
    server = start(*serve, *SHORT)
    assert server.wait_for("keeps 0 transitions")
    remote = ("--set", f"replay.address=127.0.0.1:{port}")
    actor = start("actor", "--connect", f"127.0.0.1:{port}")
    training = start("train", "tutorial-reverb", "--actors", "0", *remote, *SHORT)
    assert training.wait_for(" loss "), training.output
    server.end(signal.SIGKILL)
    tally("replay servers killed")
    again = start(*serve, *SHORT)
    assert again.wait_for("Ctrl-C ends it")
    (line,) = [line for line in again.lines if "keeps" in line]
    assert int(line.split()[2].replace(",", "")) > 800
    assert training.ended() == 0, training.output
    assert actor.ended(30) == 0, actor.output
    steps = _steps(runs()[0])
    assert steps == sorted(steps)
    assert again.end(signal.SIGINT) == 0
    assert "transitions are kept in" in again.output
    assert len([path for path in Path("kept").iterdir() if path.is_dir()]) == 1


def test_a_run_whose_server_is_not_restarted_ends_and_is_resumed_later(
    start: Callable[..., Training],
) -> None:
    port = free_port()
    serve = ("replay-server", "tutorial-reverb", "--port", str(port), "--checkpoints", "kept")
    server = start(*serve, *SHORT)
    assert server.wait_for("Ctrl-C ends it")
    remote = ("--set", f"replay.address=127.0.0.1:{port}")
    actor = start("actor", "--connect", f"127.0.0.1:{port}", "--patience", "5")
    training = start("train", "tutorial-reverb", "--actors", "0", *remote, *SHORT)
    assert training.wait_for(" loss "), training.output
    server.end(signal.SIGKILL)
    assert training.ended(120) == 1
    assert f"the replay server at 127.0.0.1:{port} does not answer" in training.output
    assert "continues from it" in training.output
    assert actor.ended(120) == 1, actor.output
    assert "Traceback" not in training.output + actor.output
    assert runs()[0].info.status == "FAILED"
    start(*serve, *SHORT).wait_for("Ctrl-C ends it")
    start("actor", "--connect", f"127.0.0.1:{port}")
    resumed = start("train", "--resume", "latest")
    assert resumed.ended() == 0, resumed.output


def test_an_environment_that_fails_in_an_actor_ends_the_run(
    start: Callable[..., Training],
) -> None:
    Path("broken").touch()
    faulty = ["--env", "tests.faulty:Faulty-v0", "--set", "env.kwargs={fault: raise, after: 500}"]
    training = start("train", "tutorial-reverb", *faulty, "--actors", "2", *SHORT)
    assert training.ended() == 1, training.output
    assert "out of ice" in training.output
    assert "Traceback" not in training.output
    assert runs()[0].info.status == "FAILED"


def test_actors_that_keep_dying_end_the_run(start: Callable[..., Training]) -> None:
    Path("broken").touch()
    dies = "env.kwargs={fault: die, call: reset, after: 0}"
    faulty = ["--env", "tests.faulty:Faulty-v0", "--set", dies]
    training = start("train", "tutorial-reverb", *faulty, "--actors", "2", *SHORT)
    assert training.ended() == 1, training.output
    assert "3 actors died before any transition arrived" in training.output
    assert "signal 9" in training.output
