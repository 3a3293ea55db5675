"""Measures the size of a run's state and of its checkpoint, and the time to write and read it.

    uv run --extra minatar python benchmarks/checkpoints.py

Each experiment trains for some iterations first, so that its replay has realistic contents. The
table is printed.
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
from dqnkit.evaluation.formatting import markdown_row, markdown_table
from dqnkit.runs.components import make_components

EXPERIMENTS = {
    "cartpole": 20_000,
    "tutorial": 100_000,
    "rainbow-lite-cartpole": 10_000,
    "lunar-lander": 10_000,
    "minatar-breakout": 25_000,
}
"""Number of iterations before the checkpoint, by experiment."""
ROUNDS = 5
HEADER = ("experiment", "transitions", "state, MB", "file, MB", "write, s", "read, s")


def median_seconds(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(experiment: str, iterations: int) -> list[str]:
    """Return a row of the table."""
    config, spec = resolve(loading.load(experiment))
    parts = make_components(config, spec)
    parts.loop.start()
    parts.loop.advance(iterations)
    state = parts.loop.state()
    parts.close()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        write_seconds = median_seconds(lambda: arrays.save_arrays(path, state))
        read_seconds = median_seconds(lambda: arrays.load_arrays(path))
        file_size = path.stat().st_size / 1e6
    state_size = sum(value.nbytes for value in state.values()) / 1e6
    transitions = min(parts.loop.env_steps, config.replay.replay_buffer_max_length)
    return [
        f"`{experiment}`",
        f"{transitions:,}",
        f"{state_size:.1f}",
        f"{file_size:.1f}",
        f"{write_seconds:.2f}",
        f"{read_seconds:.2f}",
    ]


def main() -> None:
    report.make_parser(__doc__).parse_args()
    print(f"{report.machine()}.\n")
    print(markdown_table(HEADER, []))
    for experiment, iterations in EXPERIMENTS.items():
        print(markdown_row(measure(experiment, iterations)), flush=True)


if __name__ == "__main__":
    main()
