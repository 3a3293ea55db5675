"""The replays of the host loop, for tests that apply to all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from dqnkit.config import loading
from dqnkit.config.sections import Config
from dqnkit.envs.specs import EnvSpec, ObservationKind
from dqnkit.replay.base import HostReplay, Sample
from dqnkit.replay.factory import make_host_replay
from dqnkit.replay.host_uniform import HostUniformReplay
from tests.specs import observation_spec

Make = Callable[..., HostReplay]
"""Function `(max_length, num_envs, spec, n_step=1, gamma=1.0)` that returns an empty replay."""

_SIZES = itertools.count(500)

needs_reverb = pytest.mark.skipif(
    find_spec("reverb") is None, reason="Reverb is not installed: docs/reverb.md"
)

EXPERIMENTS = [
    pytest.param(name, marks=[needs_reverb] if "reverb" in name else [])
    for name in loading.experiment_names()
]
"""The committed experiments."""
REPLAYS = {
    "uniform": ["replay.kind=uniform"],
    "prioritized": ["replay.kind=prioritized"],
    "reverb": ["replay.kind=reverb"],
    "reverb_prioritized": ["replay.kind=reverb", "replay.sampler=prioritized"],
}
ALL = [pytest.param(name, marks=[needs_reverb] if "reverb" in name else []) for name in REPLAYS]


def spec(**changes: Any) -> EnvSpec:
    """Return the specification of an environment with frames of two numbers and three actions."""
    fields = {"kind": ObservationKind.VECTOR, "frame_shape": (2,), "dtype": "float32"} | changes
    return EnvSpec("", observation_spec(**fields), num_actions=3)


def _make_replay(config: Config, of: EnvSpec) -> HostReplay:
    if config.replay.kind != "reverb":
        return make_host_replay(config, of)
    from dqnkit.reverb.replay import make_reverb_replay

    return make_reverb_replay(config, of)


@contextmanager
def makers(kind: str, *assignments: str) -> Iterator[Make]:
    """Yield a function that makes replays of one kind, which are closed at the end."""
    with ExitStack() as made:

        def make(
            max_length: int, num_envs: int, of: EnvSpec, n_step: int = 1, gamma: float = 1.0
        ) -> HostReplay:
            config = loading.default_config(
                "x",
                [
                    *REPLAYS[kind],
                    f"replay.replay_buffer_max_length={max_length}",
                    f"env.num_envs={num_envs}",
                    f"agent.n_step={n_step}",
                    f"agent.gamma={gamma}",
                    "training.batch_size=1",
                    *assignments,
                ],
            )
            replay = _make_replay(config, of)
            made.callback(replay.close)
            return replay

        yield make


def held(replay: HostReplay) -> Sample:
    """Return all transitions of a replay, each of them once."""
    if isinstance(replay, HostUniformReplay):
        return replay.transitions()
    wanted = replay.num_transitions
    if not wanted:
        return Sample(np.zeros((0, 1, 1)), np.zeros((0, 3)), np.zeros(0))
    found: dict[int, int] = {}
    samples: list[Sample] = []
    while len(found) < wanted:  # sampling is with replacement
        assert len(samples) < 1_000
        # Reverb draws samples ahead for each size: a new size makes it draw from the current table.
        samples.append(replay.sample(np.random.default_rng(0), next(_SIZES)))
        for i, row in enumerate(samples[-1].rows.tolist()):
            found.setdefault(row, sum(len(each.rows) for each in samples[:-1]) + i)
    chosen = list(found.values())
    assert len(chosen) == wanted

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(each, name) for each in samples])[chosen]

    return Sample(
        column("frames"),
        column("scalars"),
        column("rows"),
        None if samples[0].priorities is None else column("priorities"),
    )
