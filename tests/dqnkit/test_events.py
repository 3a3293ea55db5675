from __future__ import annotations

import dataclasses
import inspect
import pickle

import pytest

from dqnkit import events
from dqnkit.events import Event, RunStarted, RunStatus, WorkerEvent

EVENTS = [
    each for _, each in inspect.getmembers(events, inspect.isclass) if issubclass(each, Event)
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_cannot_be_changed_by_a_listener(event: type[Event]) -> None:
    made = event(*[None] * len(dataclasses.fields(event)))
    for name in [field.name for field in dataclasses.fields(event)] or ["anything"]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, 1)


def test_events_are_equal_by_their_values_and_survive_the_way_between_processes() -> None:
    event = WorkerEvent(3, RunStarted("its-id", 0.5, 0))
    assert pickle.loads(pickle.dumps(event)) == event
    assert event != WorkerEvent(3, RunStarted("another-id", 0.5, 0))


def test_a_status_is_the_text_that_mlflow_knows() -> None:
    from mlflow.entities import RunStatus as MlflowStatus

    for status in RunStatus:
        assert MlflowStatus.is_terminated(MlflowStatus.from_string(status))
