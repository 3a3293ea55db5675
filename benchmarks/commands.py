"""How long the commands take that look at what was trained.

    uv run python benchmarks/commands.py [--rounds 5] [--dry]

Trains one run of `cartpole` in a temporary folder, then times on it. `runs` is set beside what no
tool on MLflow can do without: importing mlflow and asking for the runs once; both alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parents[1]
DQNKIT = [sys.executable, "-c", "from cli.main import main; main()"]

QUERY = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlruns/mlflow.db")
assert client.search_runs(["1"])
"""

EVALUATION = """
import json, time
import dqnkit.agents.policies, dqnkit.evaluation.factory, mlflow, matplotlib.figure
import dqnkit
start = time.perf_counter()
result = dqnkit.evaluate("latest", 100)
seconds = time.perf_counter() - start
print(json.dumps([seconds, result.trained.seconds, sum(result.trained.lengths)]))
"""


def seconds_of(command: list[str], folder: Path) -> float:
    """Wall time of a process."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=_environment())
    return time.perf_counter() - start


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}


def measure(rounds: int, folder: Path) -> str:
    """The table."""
    subprocess.run([*DQNKIT, "train", "-q"], cwd=folder, check=True, env=_environment())
    lists: list[float] = []
    queries: list[float] = []
    evaluations: list[list[float]] = []
    for _ in range(rounds):
        queries.append(seconds_of([sys.executable, "-c", QUERY], folder))
        lists.append(seconds_of([*DQNKIT, "runs"], folder))
        done = subprocess.run(
            [sys.executable, "-c", EVALUATION],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            env=_environment(),
        )
        evaluations.append(json.loads(done.stdout))
    ratios = [ours / theirs for ours, theirs in zip(lists, queries, strict=True)]
    whole, playing, steps = (statistics.median(column) for column in zip(*evaluations, strict=True))
    start = time.perf_counter()
    done = subprocess.run(
        [*DQNKIT, "render", "latest", "--baseline", "random", "--json"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    rendering, frames = time.perf_counter() - start, json.loads(done.stdout)["frames"]
    comparing = seconds_of([*DQNKIT, "compare", "latest"], folder)
    return f"""
On {report.machine()}; medians of {rounds} rounds.

| | seconds |
|---|---|
| `runs` | {statistics.median(lists):.2f} |
| importing mlflow and one query of its client | {statistics.median(queries):.2f} |
| `runs` over that, in alternating rounds | {statistics.median(ratios):.2f} ({min(ratios):.2f} \
to {max(ratios):.2f}) times |
| `evaluate("latest", 100)` of a solved CartPole-v1, {steps:,.0f} steps, after imports | \
{whole:.2f} |
| of these, playing | {playing:.3f} |
| `compare` of one run, whole process (once) | {comparing:.1f} |
| `render --baseline random`, {frames} frames, whole process (once) | {rendering:.1f} |
"""


def main() -> None:
    """Measures, prints, and writes into the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = measure(arguments.rounds, Path(folder))
    print(table)
    if not arguments.dry:
        report.write("commands", table)


if __name__ == "__main__":
    main()
