"""The rate limiter, the tables beside the replay, and a server that is elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.resolution import resolve
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.reverb import connection
from dqnkit.reverb.broadcast import Publisher, Subscriber
from dqnkit.reverb.connection import ServerConnection
from dqnkit.reverb.replay import ReverbReplay
from dqnkit.reverb.server import ReplayServer
from dqnkit.reverb.serving import serving
from dqnkit.reverb.tables import RateLimits, TransitionSpec, broadcast_tables
from dqnkit.reverb.writer import TransitionWriter
from tests.dqnkit.replay.host_replays import held, spec
from tests.servers import free_port

RNG = np.random.default_rng(0)
ENV = np.array([0])


def _add(replay: ReverbReplay, count: int) -> None:
    replay.begin(ENV, np.zeros((1, 2), np.float32))
    for number in range(count):
        frame = np.full((1, 2), number + 1, np.float32)
        replay.add(ENV, ENV, np.float32([number]), np.array([False]), frame)


def _config(*assignments: str) -> Config:
    given = ["replay.kind=reverb", "replay.replay_buffer_max_length=50", "training.batch_size=8"]
    return loading.default_config("x", [*given, *assignments])


class TestLimits:
    LIMITS = RateLimits(samples_per_insert=4.0, min_size=10, slack_inserts=200, drawn_together=8)
    SLACK = 200 * 4 + 2 * 8
    """See `RateLimits.limiter`."""

    @pytest.fixture
    def replay(self) -> Iterator[ReverbReplay]:
        config = _config("replay.replay_buffer_max_length=10_000")
        made = ReverbReplay(config.replay, 1, TransitionSpec(spec()), self.LIMITS)
        yield made
        made.close()

    def test_nothing_is_drawn_before_there_is_enough(self, replay: ReverbReplay) -> None:
        _add(replay, 9)
        waited = []

        def wait() -> None:
            waited.append(time.monotonic())
            if len(waited) == 1:
                _add(replay, 1)

        replay.sample(RNG, 8, wait)
        assert len(waited) == 1

    def test_a_learner_waits_for_actors(self, replay: ReverbReplay) -> None:
        _add(replay, 50)
        drawn = 0

        class WaitsError(Exception):
            pass

        def wait() -> None:
            raise WaitsError

        with pytest.raises(WaitsError):  # noqa: PT012 - which draw it is, is the question
            while True:
                replay.sample(RNG, 8, wait)
                drawn += 8
        allowed = 50 * 4 + self.SLACK
        # What it fetched ahead, and lost when it gave up, is drawn too.
        assert allowed - 6 * 8 <= drawn <= allowed
        _add(replay, 30)
        assert len(replay.sample(RNG, 8, wait).rows) == 8

    def test_actors_wait_for_a_learner(self, replay: ReverbReplay) -> None:
        class WaitsError(Exception):
            pass

        def wait() -> None:
            raise WaitsError

        writer = TransitionWriter(replay.server, TransitionSpec(spec()), lambda: wait)
        writer.begin(np.zeros(2, np.float32))
        written = 0
        with pytest.raises(WaitsError):  # noqa: PT012 - see above
            while True:
                writer.add(0, 1.0, np.zeros(2, np.float32), terminated=False)
                written += 1
        # 10 that come before any is drawn, the slack of 816 / 4, and 16 on their way.
        assert abs(written - (10 + self.SLACK / 4 + 16)) <= 2
        for _ in range(30):
            replay.sample(RNG, 8)
        writer.add(0, 1.0, np.zeros(2, np.float32), terminated=False)
        writer.close()

    def test_a_run_s_are_what_its_iterations_come_to(self) -> None:
        config = _config("env.num_envs=4", "training.gradient_steps_per_iteration=2")
        assert RateLimits.of(config).samples_per_insert == 8 * 2 / 4
        given = _config("training.num_actors=2", "replay.samples_per_insert=3")
        assert RateLimits.of(given).samples_per_insert == 3.0
        assert given.num_env_steps == 100 + round(20_000 * 8 / 3)
        assert RateLimits.of(given).min_size == 50  # of 100 initial steps the table holds no more

    def test_returns_that_are_not_whole_hold_nobody_up(self) -> None:
        config = _config("env.num_envs=8", "agent.n_step=5", "training.num_actors=1")
        limits = RateLimits.of(config)
        assert limits.min_size == 50 - 8 * 4
        assert limits.slack_inserts == 200 + 8 * 4 + 100 - (50 - 8 * 4)

    def test_a_run_of_one_process_keeps_to_the_ratio_that_it_names(self) -> None:
        with pytest.raises(ConfigError, match="draws 8 transitions for each that it adds"):
            _config("replay.samples_per_insert=3")
        assert _config("replay.samples_per_insert=8").replay.samples_per_insert == 8


@pytest.mark.parametrize("size", [8, 64, 500])
def test_no_more_than_two_samples_are_drawn_ahead(size: int) -> None:
    replay = ReverbReplay(
        _config("replay.replay_buffer_max_length=1_000").replay, 1, TransitionSpec(spec())
    )
    _add(replay, 600)
    for number in range(1, 6):
        replay.sample(RNG, size)
        time.sleep(0.2)
        drawn = replay.server.info().rate_limiter_info.sample_stats.completed
        assert number * size <= drawn <= (number + 2) * size
    replay.close()


class TestBroadcast:
    @pytest.fixture
    def client(self) -> Iterator[ServerConnection]:
        server = ReplayServer(broadcast_tables())
        yield ServerConnection(server.address)
        server.close()

    def test_the_newest_is_heard_and_nothing_else(self, client: ServerConnection) -> None:
        listener = Subscriber(client)
        assert listener.latest() is None
        assert listener.wait(0.2) is None
        publisher = Publisher(client, "name: größer")
        for steps in range(5):
            publisher.publish(np.full(7, steps, np.float32), steps, 2.5)
        for _ in range(3):
            said = listener.latest()
            assert said is not None
            assert (said.config, said.env_steps, said.priority) == ("name: größer", 4, 2.5)
            assert not said.is_over
            np.testing.assert_array_equal(said.weights, np.full(7, 4, np.float32))
        publisher.publish(np.zeros(7, np.float32), 2**40, 1e-6, is_over=True)
        said = listener.latest()
        assert said is not None
        assert said.is_over
        assert said.env_steps == 2**40
        listener.close()

    def test_every_episode_is_read_once(self, client: ServerConnection) -> None:
        publisher, listeners = Publisher(client, ""), [Subscriber(client) for _ in range(3)]
        assert publisher.episodes() == []
        told = []
        for number in range(30):
            told.append((-number / 4, float(number)))
            listeners[number % 3].ended(*told[-1])
        for listener in listeners:
            listener._writer.flush()
        read = publisher.episodes()
        assert sorted(read) == sorted(told)
        assert publisher.episodes() == []
        for listener in listeners:
            listener.close()


class TestElsewhere:
    """`replay.address`."""

    def test_it_is_as_one_in_this_process(self) -> None:
        config, of = resolve(_config("replay.address=127.0.0.1:1"))
        with serving(config, of, host="127.0.0.1", port=None, folder=None) as served:
            replay = self._connect(config, served.port)
            env, frames = ENV, np.zeros((1, 4), np.float32)
            replay.begin(env, frames)
            for number in range(60):
                replay.add(env, env, np.float32([number]), np.array([False]), frames + number)
            assert replay.num_transitions == served.num_transitions == 50  # the first flushes
            sample = replay.sample(RNG, 40)
            assert set(sample.scalars[:, 1]) <= set(range(10, 60))
            assert sorted(held(replay).scalars[:, 1]) == list(range(10, 60))
            replay.close()
            assert served.num_transitions == 50

    def test_another_run_s_is_not_gone_on_with(self) -> None:
        config, of = resolve(_config("replay.address=127.0.0.1:1"))
        with serving(config, of, host="127.0.0.1", port=None, folder=None) as served:
            first = self._connect(config, served.port)
            first.begin(ENV, np.zeros((1, 4), np.float32))
            first.add(ENV, ENV, np.float32([1]), np.array([False]), np.ones((1, 4), np.float32))
            state = first.state()
            first.close()
            second = self._connect(config, served.port)
            with pytest.raises(ConfigError, match="holds 1 transitions of another run"):
                second.check()
            second.restore(state)
            second.check()
            second.begin(ENV, np.zeros((1, 4), np.float32))
            second.close()

    def test_a_server_that_lost_it_is_said(self, tmp_path: Path) -> None:
        port = free_port()
        config, of = resolve(_config(f"replay.address=127.0.0.1:{port}"))
        options = {"host": "127.0.0.1", "port": port}
        with serving(config, of, folder=tmp_path, **options):
            replay = self._connect(config, port)
            replay.begin(ENV, np.zeros((1, 4), np.float32))
            for _ in range(5):
                replay.add(ENV, ENV, np.float32([1]), np.array([False]), np.ones((1, 4), "f"))
            replay.highest = 7.0
            state = replay.state()
            assert not [name for name in state if name.startswith("files/")]
            replay.close()
        with serving(config, of, folder=None, **options):
            empty = self._connect(config, port)
            with pytest.raises(ConfigError, match="--checkpoints FOLDER"):
                empty.restore(state)
            empty.close()
        with serving(config, of, folder=tmp_path, **options):
            again = self._connect(config, port)
            again.restore(state)
            assert (again.num_transitions, again.highest) == (5, 7.0)
            again.close()

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (["replay.replay_buffer_max_length=60"], "transitions 50, not 60"),
            (["replay.sampler=prioritized"], "alpha None, not 0.6"),
            (["env.id=Acrobot-v1"], r"float32\[2, 4\].*not.*float32\[2, 6\]"),
            (["agent.n_step=3"], r"not.*'next_frames': 'float32\[1, 4\]'"),
            (["training.batch_size=16"], "samples_per_insert 8.0, not 16.0"),
        ],
    )
    def test_a_server_of_another_experiment_is_refused(
        self, changes: list[str], message: str
    ) -> None:
        config, of = resolve(_config("replay.address=127.0.0.1:1"))
        other, _ = resolve(_config("replay.address=127.0.0.1:1", *changes))
        with (
            serving(config, of, host="127.0.0.1", port=None, folder=None) as served,
            pytest.raises(ConfigError, match=message),
        ):
            self._connect(other, served.port)

    def test_a_server_of_another_kind_is_refused(self) -> None:
        server = ReplayServer(broadcast_tables())
        with pytest.raises(ConfigError, match="has no table 'replay'"):
            self._connect(_config("replay.address=127.0.0.1:1"), server.port)
        server.close()

    def test_nobody_there_is_said_soon(self) -> None:
        port, began = free_port(), time.monotonic()
        with pytest.raises(ReplayError, match=f"127.0.0.1:{port} does not answer"):
            self._connect(_config("replay.address=127.0.0.1:1"), port)
        assert time.monotonic() < began + 15

    def test_a_server_that_goes_away_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "PATIENCE_SECONDS", 3.0)
        config, of = resolve(_config("replay.address=127.0.0.1:1"))
        with serving(config, of, host="127.0.0.1", port=None, folder=None) as served:
            replay = self._connect(config, served.port)
            replay.begin(ENV, np.zeros((1, 4), np.float32))
            for _ in range(200):
                replay.add(ENV, ENV, np.float32([1]), np.array([False]), np.ones((1, 4), "f"))
            replay.sample(RNG, 8)
        with pytest.raises(ReplayError, match="does not answer"):  # noqa: PT012 - some are here
            for _ in range(100):
                replay.sample(RNG, 8)
        replay.close()

    def _connect(self, config: Config, port: int) -> ReverbReplay:
        replay = config.replay.model_copy(update={"address": f"127.0.0.1:{port}"})
        config = config.model_copy(update={"replay": replay})
        _, of = resolve(config)
        agent = config.agent
        recipe = TransitionSpec(of, agent.n_step, agent.gamma)
        return ReverbReplay(config.replay, 1, recipe, RateLimits.of(config))
