"""What the host loop's replay takes for a transition, in bytes of the process's memory.

    uv run --extra box2d --extra minatar --extra atari python benchmarks/replay_memory.py
    .venv-reverb/bin/python benchmarks/replay_memory.py --world reverb

Plays each environment at random to see how many rows go into last frames of episodes, fills a
replay, and looks at how much the process has grown. Writes the table of `docs/environments.md`.
With `--world reverb`, what Reverb's server takes, filled with frames that do not compress: that is
the table of `docs/reverb.md`.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import report

from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.envs.specs import EnvSpec, Kind, ObservationSpec
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.replay.host_uniform import HostUniformReplay

DOCUMENT = report.DOCUMENT.with_name("environments.md")
EXPERIMENTS = {
    "cartpole": 1_000_000,
    "lunar-lander": 1_000_000,
    "frozen-lake": 1_000_000,
    "minatar-breakout": 1_000_000,
    "atari-pong": 50_000,
}
"""Rows to fill: enough for the process to grow by far more than its own noise."""
STEPS = 5_000


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def filled(spec: EnvSpec, rows: int) -> float:
    """Bytes a row by which a fresh process grows when all rows have been written."""
    before = resident_bytes()
    replay = HostUniformReplay(rows, 1, spec)
    observation = spec.observation
    frame = np.ones((1, *observation.frame_shape), observation.dtype) + observation.first_value
    only, one = np.array([0]), np.ones(1, np.float32)
    replay.begin(only, frame)
    for _ in range(rows):
        replay.add(only, only, one, only > 0, frame)
    return (resident_bytes() - before) / rows


def rows_a_transition(spec: EnvSpec, environment: VectorEnvironment) -> float:
    """How many rows random episodes take: one a step, and one for each last frame."""
    rng, ends = np.random.default_rng(0), 0
    environment.reset([0])
    for _ in range(STEPS):
        ends += int(environment.step(rng.integers(spec.num_actions, size=1)).done[0])
    return (STEPS + ends) / STEPS


REVERB_FRAMES = {
    "CartPole": ObservationSpec(Kind.VECTOR, (4,), "float32"),
    "MinAtar": ObservationSpec(Kind.IMAGE, (10, 10, 4), "bool"),
    "Atari": ObservationSpec(Kind.IMAGE, (84, 84), "uint8", frame_stack=4),
}
REVERB_TRANSITIONS = 20_000


def filled_reverb(observation: ObservationSpec) -> float:
    """Bytes a transition by which a fresh process grows; each leads to one new frame."""
    from dqnkit.reverb.replay import ReverbReplay
    from dqnkit.reverb.tables import TransitionSpec

    config = loading.load("tutorial-reverb").replay
    replay = ReverbReplay(config, 1, TransitionSpec(EnvSpec("", observation, 2)))
    rng, only = np.random.default_rng(0), np.array([0])
    one, no_end = np.ones(1, np.float32), np.array([False])

    def frame() -> np.ndarray:
        bytes_ = rng.integers(256, size=(1, *observation.frame_shape), dtype=np.uint8)
        return (bytes_ % 2 if observation.dtype == "bool" else bytes_).astype(observation.dtype)

    replay.begin(only, frame())
    for _ in range(500):  # what it needs once
        replay.add(only, only, one, no_end, frame())
    before = resident_bytes()
    for _ in range(REVERB_TRANSITIONS):
        replay.add(only, only, one, no_end, frame())
    assert replay.num_transitions == REVERB_TRANSITIONS + 500
    grown = (resident_bytes() - before) / REVERB_TRANSITIONS
    replay.close()
    return grown


def reverb_table() -> str:
    lines = [
        f"{report.machine()}; {REVERB_TRANSITIONS:,} transitions of random frames.",
        "",
        "| frames like those of | a frame, bytes | a transition, bytes | beside its frame |",
        "|---|---|---|---|",
    ]
    for name, observation in REVERB_FRAMES.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            grown = fresh.submit(filled_reverb, observation).result()
        size = math.prod(observation.frame_shape) * np.dtype(observation.dtype).itemsize
        lines.append(f"| {name} | {size:,} | {grown:,.0f} | {grown - size:,.0f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    parser.add_argument("--world", default="current", choices=["current", "reverb"])
    args = parser.parse_args()
    if args.world == "reverb":
        table = reverb_table()
        if not args.dry:
            report.write("memory", table, report.DOCUMENT.with_name("reverb.md"))
        return

    lines = [
        f"{report.machine()}; {STEPS:,} random steps of each environment.",
        "",
        "| environment | a frame | bytes a row | rows a transition | bytes a transition "
        "| 100,000 transitions |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in EXPERIMENTS.items():
        config, spec = resolve(loading.load(name))
        environment = VectorEnvironment(config.env, spec, 1)
        share = rows_a_transition(spec, environment)
        environment.close()
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            row = fresh.submit(filled, spec, rows).result()
        observation = spec.observation
        shape = " by ".join(map(str, observation.frame_shape)) or "one number"
        stack = f", stacks of {observation.frame_stack}" if observation.frame_stack > 1 else ""
        lines.append(
            f"| {spec.id} | {shape} {observation.dtype}{stack} | {row:,.1f} | {share:.3f} "
            f"| {row * share:,.1f} | {row * share * 1e5 / 1e6:,.1f} MB |"
        )
        print(lines[-1], flush=True)
    if not args.dry:
        report.write("memory", "\n".join(lines), DOCUMENT)


if __name__ == "__main__":
    main()
