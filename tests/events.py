"""Listeners for tests of what a run emits, and of what happens when it is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dqnkit.events import Event, Progress, RunStatus
from dqnkit.processes.interrupts import Interrupts

_Kind = TypeVar("_Kind", bound=Event)


class Events:
    """A listener that collects events."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.all.append(event)

    def of(self, kind: type[_Kind]) -> list[_Kind]:
        """Return the events of one class, in order."""
        return [event for event in self.all if isinstance(event, kind)]

    @property
    def losses(self) -> list[float]:
        """Loss of each log interval."""
        return [each.loss for progress in self.of(Progress) for each in progress.metrics]


def once(kind: type[Event], act: Callable[[], object]) -> Callable[[Event], None]:
    """Return a listener that acts at the first event of a class."""
    done = False

    def listener(event: Event) -> None:
        nonlocal done
        if isinstance(event, kind) and not done:
            done = True
            act()

    return listener


def stop_at(iteration: int, interrupts: Interrupts) -> Callable[[Event], None]:
    """Return a listener that requests the end of the run at the first chunk from an iteration."""

    def listener(event: Event) -> None:
        if isinstance(event, Progress) and event.iteration >= iteration:
            interrupts.request(RunStatus.KILLED)

    return listener
