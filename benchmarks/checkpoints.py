"""What a checkpoint costs: the size of a run's state, of the file, and seconds to write and read.

uv run --extra minatar python benchmarks/checkpoints.py

Each task trains for some iterations first, so that its replay holds what replays hold.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import report

from dqnkit._system import arrays
from dqnkit.config import loading
from dqnkit.envs.resolution import resolve
from dqnkit.runs.components import build

TASKS = (
    ("cartpole", 20_000),
    ("tutorial", 100_000),
    ("rainbow-lite-cartpole", 10_000),
    ("lunar-lander", 10_000),
    ("minatar-breakout", 25_000),
)
"""Experiments, and iterations before the checkpoint."""
ROUNDS = 5


def seconds(action: Callable[[], object]) -> float:
    """Median over some rounds."""
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def row(experiment: str, iterations: int) -> str:
    """A line of the table."""
    config, spec = resolve(loading.load(experiment))
    parts = build(config, spec)
    parts.loop.start()
    parts.loop.advance(iterations)
    state = parts.loop.state()
    parts.close()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "state.npz"
        writing = seconds(lambda: arrays.save_arrays(path, state))
        reading = seconds(lambda: arrays.load_arrays(path))
        size = path.stat().st_size / 1e6
    raw = sum(value.nbytes for value in state.values()) / 1e6
    kept = min(parts.loop.env_steps, config.replay.replay_buffer_max_length)
    return f"| `{experiment}` | {kept:,} | {raw:.1f} | {size:.1f} | {writing:.2f} | {reading:.2f} |"


def main() -> None:
    """Prints the table."""
    print(report.machine())
    print("| experiment | transitions | state, MB | file, MB | write, s | read, s |")
    print("|---|---|---|---|---|---|")
    for experiment, iterations in TASKS:
        print(row(experiment, iterations), flush=True)


if __name__ == "__main__":
    main()
