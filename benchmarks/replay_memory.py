"""What the host loop's replay takes for a transition, in bytes of the process's memory.

    uv run --extra box2d --extra minatar --extra atari python benchmarks/replay_memory.py

Plays each environment at random to see how many rows go into last frames of episodes, fills a
replay, and looks at how much the process has grown. Writes the table of `docs/environments.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import report

from dqnkit import experiments
from dqnkit.envs.vector import VectorEnvironment
from dqnkit.replay.host_uniform import HostReplay
from dqnkit.resolution import resolve
from dqnkit.specs import EnvSpec

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
    replay = HostReplay(rows, 1, spec)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    args = parser.parse_args()

    lines = [
        f"{report.machine()}; {STEPS:,} random steps of each environment.",
        "",
        "| environment | a frame | bytes a row | rows a transition | bytes a transition "
        "| 100,000 transitions |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in EXPERIMENTS.items():
        config, spec = resolve(experiments.load(name))
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
