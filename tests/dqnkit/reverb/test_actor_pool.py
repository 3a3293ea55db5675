from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from dqnkit.errors import UnsupportedEnvironmentError, WorkerError
from dqnkit.reverb import actor_pool
from dqnkit.reverb.actor_pool import ActorPool
from tests.dqnkit.reverb import fake_actors

Target = Callable[..., None]
Start = Callable[[Target, int], ActorPool]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a pool of processes that run a function of `fake_actors`."""
    with contextlib.ExitStack() as started:

        def make(target: Target, count: int) -> ActorPool:
            monkeypatch.setattr(actor_pool, "serve_actor", target)
            pool = ActorPool("a:1", count)
            started.callback(pool.close)
            return pool

        yield make


def _replace_until(pool: ActorPool, count: int, *, progressed: bool) -> list[str]:
    """Replace dead actors until there are so many messages."""
    warnings: list[str] = []
    deadline = time.monotonic() + 60
    while len(warnings) < count:
        assert time.monotonic() < deadline
        pool.replace_dead(progressed=progressed)
        warnings += pool.warnings()
        time.sleep(0.02)
    return warnings


def test_living_actors_are_left_alone(start: Start) -> None:
    pool = start(fake_actors.idle, 2)
    handles = dict(pool._handles)
    for progressed in (False, True):
        pool.replace_dead(progressed=progressed)
    assert pool._handles == handles
    assert pool.warnings() == []


def test_a_dead_actor_is_replaced_under_a_new_number(start: Start) -> None:
    pool = start(fake_actors.idle, 2)
    other = pool._handles[1]
    pool._handles[0].kill()
    (warning,) = _replace_until(pool, 1, progressed=True)
    assert warning == "actor 0 is replaced: its process ended with signal 9"
    assert sorted(pool._handles) == [1, 2]
    assert pool._handles[1] is other
    assert pool.warnings() == []


def test_actors_that_die_while_transitions_arrive_are_always_replaced(start: Start) -> None:
    pool = start(fake_actors.die, 1)
    warnings = _replace_until(pool, 5, progressed=True)
    assert warnings[3] == ("actor 3 is replaced: its process ended with signal 9: actor 3 of a:1")


def test_actors_that_die_without_a_transition_end_the_run(start: Start) -> None:
    pool = start(fake_actors.die, 2)
    with pytest.raises(WorkerError, match=r"3 actors died before any transition.*signal 9: actor"):
        _replace_until(pool, 10, progressed=False)


def test_actors_started_before_the_last_transition_do_not_count(start: Start) -> None:
    pool = start(fake_actors.idle, 3)
    pool.replace_dead(progressed=True)
    for handle in pool._handles.values():
        handle.kill()
    assert len(_replace_until(pool, 3, progressed=False)) == 3


def test_the_error_of_an_actor_is_raised(start: Start) -> None:
    pool = start(fake_actors.refuse, 1)
    with pytest.raises(UnsupportedEnvironmentError, match="no such environment for actor 0"):
        _replace_until(pool, 1, progressed=False)


@pytest.mark.parametrize("target", [fake_actors.idle, fake_actors.hang])
def test_closing_ends_all_actors(
    start: Start, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_pool, "_EXIT_SECONDS", 0.5)
    pool = start(target, 2)
    handles = list(pool._handles.values())
    folder = pool._launcher._folder
    pool.close()
    assert all(handle.join(0) for handle in handles)
    assert not folder.exists()


def test_a_pool_that_cannot_start_ends_the_actors_that_it_has(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    launch = actor_pool.LocalLauncher.start

    def fail_at_second(*arguments: object, **named: object) -> object:
        if started:
            raise OSError("no more processes")
        started.append(launch(*arguments, **named))  # type: ignore[arg-type]  # passed through
        return started[-1]

    monkeypatch.setattr(actor_pool.LocalLauncher, "start", fail_at_second)
    with pytest.raises(OSError, match="no more processes"):
        start(fake_actors.idle, 2)
    assert started[0].join(10)
