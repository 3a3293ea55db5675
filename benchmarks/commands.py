"""Measures how long the commands take that evaluate, compare and render recorded runs.

    uv run python benchmarks/commands.py [--rounds 5] [--dry]

Trains one run of `cartpole` in a temporary folder and times the commands on it. The baseline for
`dqnkit runs` is the work of every MLflow client: importing mlflow and querying the runs once. Both
alternate.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import report

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


def measure(rounds: int, folder: Path) -> str:
    """Return the section of the document."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(report.ROOT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)

    def run(*command: str) -> str:
        return report.run_command(command, folder=folder, environment=environment)

    def seconds(*command: str) -> float:
        return report.time_command(command, folder=folder, environment=environment)

    run(report.DQNKIT, "train", "-q")
    runs: list[float] = []
    queries: list[float] = []
    evaluations: list[list[float]] = []
    for _ in range(rounds):
        queries.append(seconds(sys.executable, "-c", QUERY))
        runs.append(seconds(report.DQNKIT, "runs"))
        evaluations.append(json.loads(run(sys.executable, "-c", EVALUATION)))
    whole, playing, steps = (statistics.median(column) for column in zip(*evaluations, strict=True))
    start = time.perf_counter()
    output = run(report.DQNKIT, "render", "latest", "--baseline", "random", "--json")
    rendering, frames = time.perf_counter() - start, json.loads(output)["frames"]
    comparing = seconds(report.DQNKIT, "compare", "latest")
    evaluation = f'`evaluate("latest", 100)` of a solved CartPole-v1, {steps:,.0f} steps'
    rows = [
        ("`runs`", f"{statistics.median(runs):.2f}"),
        ("importing mlflow and one query of its client", f"{statistics.median(queries):.2f}"),
        (
            "`runs` relative to that, in alternating rounds",
            f"{report.spread(report.ratios(runs, queries), '.2f')} times",
        ),
        (f"{evaluation}, after imports", f"{whole:.2f}"),
        ("of which playing", f"{playing:.3f}"),
        ("`compare` of one run, whole process (once)", f"{comparing:.1f}"),
        (
            f"`render --baseline random`, {frames} frames, whole process (once)",
            f"{rendering:.1f}",
        ),
    ]
    return report.make_section(f"medians of {rounds} rounds", ("", "seconds"), rows)


def main() -> None:
    parser = report.make_parser(__doc__)
    parser.add_argument("--rounds", type=report.positive_int, default=5)
    report.add_dry_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        section = measure(args.rounds, Path(folder))
    print(section)
    if not args.dry:
        report.write_section("commands", section)


if __name__ == "__main__":
    main()
