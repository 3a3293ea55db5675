"""How fast the graph loop is beside the tutorial's loop and Stable-Baselines3, in one call.

    uv run python benchmarks/speed.py

Contestants alternate, each in a fresh process, so that a busy minute hits all of them. Prints
medians and ratios, and writes the table of `docs/benchmarks.md`. Takes about ten minutes.
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
from typing import Any

import report

HERE = Path(__file__).resolve().parent
SB3_ENVIRONMENT = HERE.parent / ".benchmarks" / "sb3"


def sb3_python() -> str:
    """The interpreter of Stable-Baselines3's own environment, made on the first call."""
    python = SB3_ENVIRONMENT / "bin" / "python"
    if not (SB3_ENVIRONMENT / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(SB3_ENVIRONMENT)], check=True)
        requirements = str(HERE / "requirements-sb3.txt")
        subprocess.run([str(python), "-m", "pip", "install", "-qr", requirements], check=True)
        (SB3_ENVIRONMENT / "ready").touch()
    return str(python)


def run(python: str, script: str) -> dict[str, Any]:
    """The JSON document that a contestant prints last; threads as it sets them by itself."""
    command = [python, "-W", "ignore", str(HERE / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def seconds_of(*command: str, repeats: int = 1) -> float:
    """Median wall time of a command in an empty folder."""
    times = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_loops(rounds: int) -> dict[str, list[float]]:
    sb3 = sb3_python()
    rates: dict[str, list[float]] = {name: [] for name in ("tutorial", "sb3", "dqnkit", "compile")}
    for number in range(1, rounds + 1):
        tutorial = run(sys.executable, "tutorial_loop.py")["iterations_per_second"][0]
        stable_baselines = run(sb3, "sb3_loop.py")["iterations_per_second"]
        ours = run(sys.executable, "dqnkit_loop.py")
        for name, value in (
            ("tutorial", tutorial),
            ("sb3", stable_baselines),
            ("dqnkit", ours["iterations_per_second"]),
            ("compile", ours["compile_seconds"]),
        ):
            rates[name].append(value)
        print(
            f"round {number}: tutorial {tutorial:,.0f} it/s, Stable-Baselines3 "
            f"{stable_baselines:,.0f} it/s, dqnkit {ours['iterations_per_second']:,.0f} it/s "
            f"(compiled in {ours['compile_seconds']:.1f} s)",
            flush=True,
        )
    return rates


def measure_processes() -> dict[str, float]:
    script = str(Path(sys.executable).with_name("dqnkit"))
    times = {
        "python": seconds_of(sys.executable, "-c", "pass", repeats=7),
        "help": seconds_of(script, "--help", repeats=7),
        "train": seconds_of(script, "train", "tutorial", repeats=3),
        "tutorial": seconds_of(
            *(sys.executable, "-W", "ignore", str(HERE / "tutorial_loop.py")),
            *("--evaluate", "--iterations", "20000"),
        ),
    }
    print(json.dumps(times), flush=True)
    return times


def loops_table(rates: dict[str, list[float]]) -> str:
    rounds = len(rates["dqnkit"])
    median = {name: statistics.median(values) for name, values in rates.items()}

    def ratios(name: str) -> str:
        each = [ours / theirs for ours, theirs in zip(rates["dqnkit"], rates[name], strict=True)]
        return f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})"

    return "\n".join(
        [
            f"{report.machine()}; medians of {rounds} alternating rounds, ratios of each round "
            "(least to greatest).",
            "",
            "| loop, one update an environment step | iterations/s | dqnkit is faster by |",
            "|---|---|---|",
            f"| TF-Agents tutorial (PyDriver, TFUniformReplayBuffer, tf.data) "
            f"| {median['tutorial']:,.0f} | {ratios('tutorial')} |",
            f"| Stable-Baselines3 DQN | {median['sb3']:,.0f} | {ratios('sb3')} |",
            f"| dqnkit, graph loop | {median['dqnkit']:,.0f} | |",
            "",
            f"Compiling the graph loop takes {median['compile']:.1f} s, which is not in the rates.",
        ]
    )


def processes_table(times: dict[str, float]) -> str:
    return "\n".join(
        [
            f"{report.machine()}.",
            "",
            "| whole process | seconds |",
            "|---|---|",
            f"| the tutorial as a script: 20,000 iterations, 21 evaluations of 10 episodes "
            f"| {times['tutorial']:.1f} |",
            f"| `dqnkit train tutorial`: the same work, tracked in MLflow from an empty folder "
            f"| {times['train']:.1f} ({times['tutorial'] / times['train']:.1f} times faster) |",
            f"| `dqnkit --help` | {times['help']:.2f} |",
            f"| `python -c pass` | {times['python']:.2f} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loops-only", action="store_true", help="leave whole processes out")
    parser.add_argument("--dry", action="store_true", help="print the tables, write nothing")
    args = parser.parse_args()

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    tables = {"speed": loops_table(measure_loops(args.rounds))}
    if not args.loops_only:
        tables["processes"] = processes_table(measure_processes())
    for section, markdown in tables.items():
        print("\n" + markdown)
        if not args.dry:
            report.write(section, markdown)


if __name__ == "__main__":
    main()
