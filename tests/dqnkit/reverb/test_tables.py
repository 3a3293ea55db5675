from __future__ import annotations

from collections.abc import Iterator

import pytest

from dqnkit.envs.specs import ObservationKind
from dqnkit.errors import ConfigError
from dqnkit.reverb import tables
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.tables import RateLimits, TransitionSpec, make_replay_table
from dqnkit.reverb.writer import TransitionWriter
from tests.dqnkit.replay.host_replays import spec
from tests.dqnkit.reverb.helpers import (
    FRAME,
    RNG,
    BlockedError,
    add,
    raise_blocked,
    reverb_config,
)


class TestTransitionSpec:
    IMAGE = spec(kind=ObservationKind.IMAGE, frame_shape=(6, 5), dtype="uint8", frame_stack=4)

    def test_one_step_transitions_share_the_frames_of_both_observations(self) -> None:
        layout = TransitionSpec(self.IMAGE)
        signature = layout.signature()
        assert layout.frames == 5
        assert signature["frames"].shape == [5, 6, 5]
        assert signature["frames"].dtype.name == layout.dtype == "uint8"
        assert signature["scalars"].shape == [3]

    def test_n_step_transitions_have_two_stacks(self) -> None:
        layout = TransitionSpec(self.IMAGE, n_step=3)
        signature = layout.signature()
        assert layout.frames == 8
        assert signature["frames"].shape == signature["next_frames"].shape == [4, 6, 5]


class TestRateLimits:
    LIMITS = RateLimits(
        samples_per_insert=4.0, min_size=10, slack_inserts=200, draws_per_iteration=8
    )
    SLACK = 200 * 4 + 2 * 8
    """Error buffer of `RateLimits.limiter`, in samples."""

    @pytest.fixture
    def replay(self) -> Iterator[ReverbReplay]:
        config = reverb_config("replay.replay_buffer_max_length=10_000")
        replay = ReverbReplay(config.replay, 1, TransitionSpec(spec()), self.LIMITS)
        yield replay
        replay.close()

    def test_sampling_waits_for_the_minimum_size(self, replay: ReverbReplay) -> None:
        add(replay, 9)
        calls = 0

        def on_wait() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                add(replay, 1)

        replay.sample(RNG, 8, on_wait)
        assert calls == 1

    def test_a_learner_waits_for_actors(self, replay: ReverbReplay) -> None:
        add(replay, 50)
        drawn = 0
        with pytest.raises(BlockedError):  # noqa: PT012 - one of the draws raises
            while True:
                replay.sample(RNG, 8, raise_blocked)
                drawn += 8
        allowed = 50 * 4 + self.SLACK
        # Samples that were prefetched and lost at the end count as drawn.
        assert allowed - 6 * 8 <= drawn <= allowed
        add(replay, 30)
        assert len(replay.sample(RNG, 8, raise_blocked).rows) == 8

    def test_actors_wait_for_a_learner(self, replay: ReverbReplay) -> None:
        writer = TransitionWriter(replay.server, TransitionSpec(spec()), lambda: raise_blocked)
        writer.begin(FRAME)
        written = 0
        with pytest.raises(BlockedError):  # noqa: PT012 - one of the steps raises
            while True:
                writer.add(0, 1.0, FRAME, terminated=False)
                written += 1
        # The minimum size, the slack of 816 / 4, and 16 transitions in flight.
        assert abs(written - (10 + self.SLACK / 4 + 16)) <= 2
        for _ in range(30):
            replay.sample(RNG, 8)
        writer.add(0, 1.0, FRAME, terminated=False)
        writer.close()

    def test_the_ratio_is_that_of_the_iterations(self) -> None:
        config = reverb_config("env.num_envs=4", "training.gradient_steps_per_iteration=2")
        limits = RateLimits.from_config(config)
        assert limits.samples_per_insert == 8 * 2 / 4
        assert limits.draws_per_iteration == 2 * 8

    def test_a_configured_ratio_takes_precedence(self) -> None:
        config = reverb_config("training.num_actors=2", "replay.samples_per_insert=3")
        limits = RateLimits.from_config(config)
        assert limits.samples_per_insert == 3.0
        assert config.num_env_steps == 100 + round(20_000 * 8 / 3)
        assert limits.min_size == 50  # the table holds no more of the 100 initial steps

    def test_incomplete_n_step_returns_are_part_of_the_slack(self) -> None:
        limits = RateLimits.from_config(
            reverb_config("env.num_envs=8", "agent.n_step=5", "training.num_actors=1")
        )
        assert limits.min_size == 50 - 8 * 4
        assert limits.slack_inserts == 200 + 8 * 4 + 100 - (50 - 8 * 4)

    def test_the_minimum_size_is_at_least_1(self) -> None:
        config = reverb_config("agent.n_step=5", "training.initial_collect_steps=2")
        assert RateLimits.from_config(config).min_size == 1


def test_a_table_that_does_not_fit_into_memory_is_rejected() -> None:
    config = reverb_config("replay.replay_buffer_max_length=900_000_000_000")
    with pytest.raises(ConfigError, match="keep fewer transitions"):
        make_replay_table(config.replay, TransitionSpec(spec()), RateLimits())


def test_memory_is_checked_with_the_overhead_of_a_transition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[tuple[int, int]] = []
    monkeypatch.setattr(tables, "check_replay_fits_memory", lambda *sizes: checked.append(sizes))
    make_replay_table(reverb_config().replay, TransitionSpec(spec()), RateLimits())
    assert checked == [(50, 50 * (2 * 4 + tables._OVERHEAD_BYTES))]
