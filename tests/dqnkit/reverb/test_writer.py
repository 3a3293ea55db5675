from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dqnkit.errors import ReplayError
from dqnkit.reverb.connection import ServerConnection
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.tables import RateLimits, TransitionSpec
from dqnkit.reverb.writer import TransitionWriter
from tests.dqnkit.replay.host_replays import held, spec
from tests.dqnkit.reverb.helpers import BlockedError, raise_blocked, reverb_config

GAMMA = 0.5


def _frame(number: int) -> np.ndarray:
    return np.full(2, number, np.float32)


class _Table:
    """A replay that one writer fills."""

    def __init__(self, n_step: int = 1, stack: int = 1, **limits: float) -> None:
        layout = TransitionSpec(spec(frame_stack=stack), n_step, GAMMA)
        config = reverb_config("replay.sampler=prioritized", "replay.alpha=1")
        self.replay = ReverbReplay(config.replay, 0, layout, RateLimits(**limits))
        self.writer = TransitionWriter(self.replay.server, layout, lambda: raise_blocked)

    def add(self, first: int, last: int, *, terminated: bool = False) -> None:
        """Add steps whose actions and rewards are the numbers of the frames that they lead to."""
        for number in range(first, last + 1):
            ends = terminated and number == last
            self.writer.add(number, float(number), _frame(number), terminated=ends)

    def rows(self) -> list[tuple[list[float], list[float]]]:
        """Return frames and scalars of all transitions, in the order of their actions."""
        self.writer.flush()
        sample = held(self.replay)
        pairs = zip(sample.frames, sample.scalars, strict=True)
        rows = [(frames[:, 0].tolist(), scalars.tolist()) for frames, scalars in pairs]
        return sorted(rows, key=lambda row: row[1][0])

    def close(self) -> None:
        self.writer.close()
        self.replay.close()


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Iterator[_Table]:
    made = _Table(**getattr(request, "param", {}))
    yield made
    made.close()


def test_a_step_is_one_transition(table: _Table) -> None:
    table.writer.begin(_frame(0))
    table.add(1, 3, terminated=True)
    assert table.rows() == [
        ([0, 1], [1, 1, 1]),
        ([1, 2], [2, 2, 1]),
        ([2, 3], [3, 3, 0]),
    ]


@pytest.mark.parametrize("table", [{"stack": 3}], indirect=True)
def test_stacks_begin_with_copies_of_the_first_frame(table: _Table) -> None:
    table.writer.begin(_frame(7))
    table.add(8, 9)
    assert table.rows() == [([7, 7, 7, 8], [8, 8, 1]), ([7, 7, 8, 9], [9, 9, 1])]


@pytest.mark.parametrize("table", [{"n_step": 3}], indirect=True)
def test_returns_are_summed_over_n_steps_and_shorter_at_a_terminal_state(table: _Table) -> None:
    table.writer.begin(_frame(0))
    table.add(1, 3)
    assert table.rows() == [([0, 3], [1, 1 + 2 / 2 + 3 / 4, 1 / 4])]
    table.add(4, 4, terminated=True)
    assert table.rows()[1:] == [
        ([1, 4], [2, 2 + 3 / 2 + 4 / 4, 0]),
        ([2, 4], [3, 3 + 4 / 2, 0]),
        ([3, 4], [4, 4, 0]),
    ]


@pytest.mark.parametrize("table", [{"n_step": 2}], indirect=True)
def test_a_truncated_episode_ends_when_the_next_begins(table: _Table) -> None:
    table.writer.begin(_frame(0))
    table.add(1, 2)
    assert table.rows() == [([0, 2], [1, 1 + 2 / 2, 1 / 2])]
    table.writer.begin(_frame(10))
    table.add(11, 12)
    # The last step is bootstrapped, and no transition joins the two episodes.
    assert table.rows()[1:] == [([1, 2], [2, 2, 1]), ([10, 12], [11, 11 + 12 / 2, 1 / 2])]


def test_transitions_have_the_priority_of_the_moment(table: _Table) -> None:
    table.writer.begin(_frame(0))
    table.add(1, 2)
    table.writer.priority = 4.0
    table.add(3, 3)
    table.writer.flush()
    sample = held(table.replay)
    assert sample.priorities is not None
    priorities = dict(zip(sample.scalars[:, 0].tolist(), sample.priorities.tolist(), strict=True))
    assert priorities == {1.0: 1.0, 2.0: 1.0, 3.0: 4.0}


@pytest.mark.parametrize(
    "table", [{"samples_per_insert": 1.0, "min_size": 5, "slack_inserts": 5}], indirect=True
)
def test_a_blocked_writer_runs_the_callback(table: _Table) -> None:
    table.writer.begin(_frame(0))
    with pytest.raises(BlockedError):
        table.add(1, 100)
    with pytest.raises(BlockedError):
        table.writer.flush()
    table.writer.flush(in_flight=100)


def test_a_server_that_is_gone_raises_replay_error(table: _Table) -> None:
    server = ServerConnection(table.replay.server.address, timeout=1.0)

    def check_server() -> None:
        server.info()

    writer = TransitionWriter(server, TransitionSpec(spec()), lambda: check_server)
    writer.begin(_frame(0))
    table.replay.close()
    with pytest.raises(ReplayError, match="does not answer"):  # noqa: PT012 - one of the steps
        for number in range(100):
            writer.add(0, 1.0, _frame(number), terminated=False)
    writer.close()
    server.close()
