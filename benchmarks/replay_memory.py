"""Measures the memory of the host loop's replay in bytes per transition.

    uv run --extra box2d --extra minatar --extra atari python benchmarks/replay_memory.py
    .venv-reverb/bin/python benchmarks/replay_memory.py --world reverb

Plays each environment with random actions, to count the rows that hold last frames of episodes.
Then fills a replay in a new process and measures how much the process has grown. The table is
written into `docs/environments.md`. With `--world reverb`, it is Reverb's server that is filled,
with frames that cannot be compressed, and the table is written into `docs/reverb.md`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import report

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import ArraySpec, EnvSpec, ObservationKind, ObservationSpec
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.evaluation.formatting import markdown_row, markdown_table
from dqnkit.replay.host_uniform import HostUniformReplay

EXPERIMENTS = {
    "cartpole": 1_000_000,
    "lunar-lander": 1_000_000,
    "frozen-lake": 1_000_000,
    "minatar-breakout": 1_000_000,
    "atari-pong": 50_000,
}
"""Number of rows to fill, large enough that other changes of the process's size are negligible."""
STEPS = 5_000
"""Number of random steps in each environment."""


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def in_new_process(function: Callable[..., float], *arguments: object) -> float:
    """Return the result of a function that is called in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def bytes_per_row(spec: EnvSpec, rows: int) -> float:
    """Fill a replay and return how much the process has grown, in bytes per row."""
    before = resident_bytes()
    replay = HostUniformReplay(rows, 1, spec)
    observation = spec.observation
    frame = np.ones((1, *observation.frame_shape), observation.dtype)
    index, reward, terminated = np.array([0]), np.ones(1, np.float32), np.array([False])
    replay.begin(index, frame)
    for _ in range(rows):
        replay.add(index, index, reward, terminated, frame)
    return (resident_bytes() - before) / rows


def rows_per_transition(spec: EnvSpec, environment: VectorEnvironment) -> float:
    """Return the number of rows of random episodes: one per step, and one per last frame."""
    rng, ends = np.random.default_rng(0), 0
    environment.reset([0])
    for _ in range(STEPS):
        ends += int(environment.step(rng.integers(spec.num_actions, size=1)).done[0])
    return (STEPS + ends) / STEPS


REVERB_OBSERVATIONS = {
    "CartPole": ObservationSpec((ArraySpec(ObservationKind.VECTOR, (4,), "float32"),)),
    "MinAtar": ObservationSpec((ArraySpec(ObservationKind.IMAGE, (10, 10, 4), "bool"),)),
    "Atari": ObservationSpec((ArraySpec(ObservationKind.IMAGE, (84, 84), "uint8"),), frame_stack=4),
}
REVERB_TRANSITIONS = 20_000
REVERB_WARM_UP = 500
"""Number of transitions before the measurement, after which the server's fixed memory is there."""


def reverb_bytes_per_transition(observation: ObservationSpec) -> float:
    """Fill Reverb's server and return how much the process has grown, in bytes per transition.

    Each transition adds one new frame.
    """
    from dqnkit.reverb.replay import ReverbReplay
    from dqnkit.reverb.tables import TransitionSpec

    config = loading.load("tutorial-reverb").replay
    replay = ReverbReplay(config, 1, TransitionSpec(EnvSpec("", observation, 2)))
    rng = np.random.default_rng(0)
    index, reward, terminated = np.array([0]), np.ones(1, np.float32), np.array([False])

    def frame() -> np.ndarray:
        values = rng.integers(256, size=(1, *observation.frame_shape), dtype=np.uint8)
        return (values % 2 if observation.dtype == "bool" else values).astype(observation.dtype)

    replay.begin(index, frame())
    for _ in range(REVERB_WARM_UP):
        replay.add(index, index, reward, terminated, frame())
    before = resident_bytes()
    for _ in range(REVERB_TRANSITIONS):
        replay.add(index, index, reward, terminated, frame())
    assert replay.num_transitions == REVERB_TRANSITIONS + REVERB_WARM_UP
    grown = (resident_bytes() - before) / REVERB_TRANSITIONS
    replay.close()
    return grown


def measure_reverb() -> str:
    """Return the section of `docs/reverb.md`."""
    header = (
        "frames like those of",
        "frame, bytes",
        "transition, bytes",
        "transition without the frame, bytes",
    )
    print(markdown_table(header, []))
    rows = []
    for name, observation in REVERB_OBSERVATIONS.items():
        transition = in_new_process(reverb_bytes_per_transition, observation)
        frame = math.prod(observation.frame_shape) * np.dtype(observation.dtype).itemsize
        rows.append([name, f"{frame:,}", f"{transition:,.0f}", f"{transition - frame:,.0f}"])
        print(markdown_row(rows[-1]), flush=True)
    conditions = f"{REVERB_TRANSITIONS:,} transitions of random frames"
    return report.make_section(conditions, header, rows)


def measure_host() -> str:
    """Return the section of `docs/environments.md`."""
    header = (
        "environment",
        "frame",
        "bytes per row",
        "rows per transition",
        "bytes per transition",
        "100,000 transitions",
    )
    print(markdown_table(header, []))
    rows = []
    for name, num_rows in EXPERIMENTS.items():
        config, spec = resolve(loading.load(name))
        environment = VectorEnvironment(config.env, spec, 1)
        per_transition = rows_per_transition(spec, environment)
        environment.close()
        row_bytes = in_new_process(bytes_per_row, spec, num_rows)
        observation = spec.observation
        shape = " by ".join(map(str, observation.frame_shape)) or "one number"
        stack = f", stacks of {observation.frame_stack}" if observation.frame_stack > 1 else ""
        transition_bytes = row_bytes * per_transition
        cells = [
            spec.id,
            f"{shape} {observation.dtype}{stack}",
            f"{row_bytes:,.1f}",
            f"{per_transition:.3f}",
            f"{transition_bytes:,.1f}",
            f"{transition_bytes * 1e5 / 1e6:,.1f} MB",
        ]
        rows.append(cells)
        print(markdown_row(cells), flush=True)
    return report.make_section(f"{STEPS:,} random steps of each environment", header, rows)


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument("--world", default="current", choices=["current", "reverb"])
    report.add_dry_option(parser)
    args = parser.parse_args()
    if args.world == "reverb":
        section, document = measure_reverb(), "reverb.md"
    else:
        section, document = measure_host(), "environments.md"
    if not args.dry:
        report.write_section("memory", section, report.DOCUMENT.with_name(document))


if __name__ == "__main__":
    main()
