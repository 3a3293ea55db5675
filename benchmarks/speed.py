"""Measures the speed of dqnkit's loops beside the TF-Agents tutorial and Stable-Baselines3.

    uv run --extra box2d python benchmarks/speed.py [SECTION ...]
    uv run python benchmarks/speed.py --world reverb [SECTION ...]

`--world reverb` needs the environment of docs/reverb.md. The libraries alternate, each in a new
process, so that a slow minute of the machine affects all of them. Writes tables of medians and
ratios into `docs/benchmarks.md`. All sections take about twenty minutes.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, NamedTuple

import family
import report

REVERB_ENVIRONMENT = report.ROOT / ".venv-reverb"
RATIOS = "ratios of each round (minimum to maximum)"

Pair = tuple[float, float]
"""Rates of dqnkit and of the other library in the same round."""


def measure(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """Run one of the loops in a new process and return the JSON document that it prints."""
    command = [python, "-W", "ignore", str(report.HERE / script), *arguments]
    document: dict[str, Any] = json.loads(report.run_command(command).strip().splitlines()[-1])
    return document


def measure_dqnkit(*arguments: str) -> dict[str, Any]:
    return measure(sys.executable, "dqnkit_loop.py", *arguments)


def measure_tutorial(*arguments: str) -> float:
    """Return the tutorial's iterations per second."""
    document = measure(sys.executable, "tutorial_loop.py", *arguments)
    return float(document["iterations_per_second"][0])


def measure_sb3(*arguments: str) -> float:
    """Return the environment steps per second of Stable-Baselines3."""
    document = measure(report.make_interpreter("sb3"), "sb3_loop.py", *arguments)
    return float(document["steps_per_second"])


def set_options(assignments: Iterable[str]) -> list[str]:
    """Return the arguments of `dqnkit_loop.py` for assignments of configuration keys."""
    return [part for assignment in assignments for part in ("--set", assignment)]


def compare(pairs: list[Pair]) -> list[str]:
    """Return the cells of both medians and of the ratio."""
    ours, others = (list(column) for column in zip(*pairs, strict=True))
    return [
        f"{statistics.median(ours):,.0f}",
        f"{statistics.median(others):,.0f}",
        report.spread(report.ratios(ours, others)),
    ]


# -- The graph loop


def loops_section(rounds: int) -> str:
    """Compare the graph loop with both libraries."""
    rates: dict[str, list[float]] = {name: [] for name in ("tutorial", "sb3", "dqnkit", "compile")}
    for number in range(1, rounds + 1):
        rates["tutorial"].append(measure_tutorial())
        rates["sb3"].append(measure_sb3())
        dqnkit = measure_dqnkit()
        rates["dqnkit"].append(dqnkit["steps_per_second"])
        rates["compile"].append(dqnkit["compile_seconds"])
        print(
            f"round {number}: tutorial {rates['tutorial'][-1]:,.0f} it/s, Stable-Baselines3 "
            f"{rates['sb3'][-1]:,.0f} it/s, dqnkit {rates['dqnkit'][-1]:,.0f} it/s "
            f"(compiled in {rates['compile'][-1]:.1f} s)",
            flush=True,
        )

    def cells(name: str) -> list[str]:
        is_baseline = name == "dqnkit"
        ratio = "" if is_baseline else report.spread(report.ratios(rates["dqnkit"], rates[name]))
        return [f"{statistics.median(rates[name]):,.0f}", ratio]

    tutorial = "TF-Agents tutorial (PyDriver, TFUniformReplayBuffer, tf.data)"
    section = report.make_section(
        f"medians of {rounds} alternating rounds, {RATIOS}",
        ("loop, one update per environment step", "iterations/s", "dqnkit is faster by"),
        [
            [tutorial, *cells("tutorial")],
            ["Stable-Baselines3 DQN", *cells("sb3")],
            ["dqnkit, graph loop", *cells("dqnkit")],
        ],
    )
    compile_seconds = statistics.median(rates["compile"])
    return (
        f"{section}\n\nThe rates do not include compiling the graph loop, which takes "
        f"{compile_seconds:.1f} s."
    )


def variants_section(rounds: int) -> str:
    """Compare the variants of DQN in the graph loop."""
    variants = {**family.VARIANTS, family.RAINBOW: family.RAINBOW_ASSIGNMENTS}
    rates: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for variant, assignments in variants.items():
            # The tutorial's discount of 1 would give C51 a useless support: no tight bounds.
            arguments = set_options(["agent.gamma=0.99", *assignments])
            rate = measure_dqnkit(*arguments)["steps_per_second"]
            rates.setdefault(variant, []).append(rate)
            print(f"round {number}: {variant}, {rate:,.0f} it/s", flush=True)
    rows = []
    for variant, values in rates.items():
        ratio = report.spread(report.ratios(rates["DQN"], values), ".2f")
        median = f"{statistics.median(values):,.0f}"
        rows.append([variant, median, "" if variant == "DQN" else ratio])
    return report.make_section(
        f"medians of {rounds} alternating rounds, {RATIOS}",
        ("agent, graph loop", "iterations/s", "time relative to plain DQN"),
        rows,
    )


# -- The host loop


class HostComparison(NamedTuple):
    """Arguments of both loops for one comparison."""

    name: str
    dqnkit: tuple[str, ...]
    sb3: tuple[str, ...]


ONE_STEP, SIXTEEN_STEPS = ("--train-freq", "1"), ("--train-freq", "16")
HOST_COMPARISONS = (
    HostComparison("1 environment, 1 step, 1 update", ONE_STEP, ONE_STEP),
    HostComparison("1 environment, 16 steps, 16 updates", SIXTEEN_STEPS, SIXTEEN_STEPS),
    HostComparison(
        "8 environments and 8 updates per step, against 1", ("--num-envs", "8"), ONE_STEP
    ),
)
HOST_ENVIRONMENTS = ("CartPole-v1", "LunarLander-v3")
HOST_LOOP = ("--loop", "host", "--steps", "16000")


def host_section(rounds: int) -> str:
    """Compare the host loop with Stable-Baselines3."""
    pairs: dict[tuple[str, str], list[Pair]] = {}
    for number in range(1, rounds + 1):
        for env_id, comparison in itertools.product(HOST_ENVIRONMENTS, HOST_COMPARISONS):
            env = ("--env", env_id)
            sb3 = measure_sb3(*env, *comparison.sb3)
            dqnkit = measure_dqnkit(*env, *HOST_LOOP, *comparison.dqnkit)["steps_per_second"]
            pairs.setdefault((env_id, comparison.name), []).append((dqnkit, sb3))
            print(
                f"round {number}: {env_id}, {comparison.name}: dqnkit {dqnkit:,.0f} steps/s, "
                f"Stable-Baselines3 {sb3:,.0f}: {dqnkit / sb3:.1f}",
                flush=True,
            )
    return report.make_section(
        f"environment steps per second, medians of {rounds} alternating rounds, {RATIOS}",
        (
            "environment",
            "comparison",
            "dqnkit, host loop",
            "Stable-Baselines3",
            "dqnkit is faster by",
        ),
        [[env_id, name, *compare(each)] for (env_id, name), each in pairs.items()],
    )


# -- Whole processes


def processes_section(rounds: int) -> str:
    """Compare whole runs with the tutorial, and measure how long the command takes to start."""
    del rounds  # the repetitions below are fixed: a run of the tutorial takes minutes
    tutorial = report.time_command(
        [
            *(sys.executable, "-W", "ignore", str(report.HERE / "tutorial_loop.py")),
            *("--evaluate", "--iterations", "20000"),
        ]
    )
    train = report.time_command([report.DQNKIT, "train", "tutorial"], repeats=3)
    dqnkit_help = report.time_command([report.DQNKIT, "--help"], repeats=7)
    python = report.time_command([sys.executable, "-c", "pass"], repeats=7)
    return report.make_section(
        "",
        ("whole process", "seconds"),
        [
            [
                "the tutorial as a script: 20,000 iterations, 21 evaluations of 10 episodes",
                f"{tutorial:.1f}",
            ],
            [
                "`dqnkit train tutorial`: the same work, tracked in MLflow from an empty folder",
                f"{train:.1f} ({tutorial / train:.1f} times faster)",
            ],
            ["`dqnkit --help`", f"{dqnkit_help:.2f}"],
            ["`python -c pass`", f"{python:.2f}"],
        ],
    )


# -- Reverb

REVERB_LOOP = ("--loop", "host", "--set", "replay.kind=reverb")
REVERB_COMPARISONS = {
    "1 step, 1 update": ONE_STEP,
    "16 steps, 16 updates": SIXTEEN_STEPS,
}
"""Arguments of dqnkit's loop; the tutorial's does one update after each step."""


def reverb_section(rounds: int) -> str:
    """Compare the host loop with the tutorial, both with Reverb."""
    pairs: dict[str, list[Pair]] = {}
    for number in range(1, rounds + 1):
        tutorial = measure_tutorial("--replay", "reverb")
        for name, arguments in REVERB_COMPARISONS.items():
            document = measure_dqnkit(*REVERB_LOOP, "--steps", "16000", *arguments)
            dqnkit = document["steps_per_second"]
            pairs.setdefault(name, []).append((dqnkit, tutorial))
            print(
                f"round {number}: {name}: dqnkit {dqnkit:,.0f} it/s, tutorial {tutorial:,.0f}: "
                f"{dqnkit / tutorial:.1f}",
                flush=True,
            )
    return report.make_section(
        "environment steps per second, with one update each; medians of "
        f"{rounds} alternating rounds, {RATIOS}",
        (
            "dqnkit alternates",
            "dqnkit, host loop with Reverb",
            "the tutorial's loop with Reverb",
            "dqnkit is faster by",
        ),
        [[name, *compare(each)] for name, each in pairs.items()],
    )


STEPS_PER_UPDATE = (1, 8)
NUM_ACTORS = {None: "one process", 1: "1 actor", 2: "2 actors", 4: "4 actors"}
"""Column of each number of actors; without actors, one process alternates between steps and
updates."""


def actors_section(rounds: int) -> str:
    """Measure the host loop with Reverb by the number of actors."""
    rates: dict[tuple[int, int | None], list[float]] = {}
    for number in range(1, rounds + 1):
        for steps, actors in itertools.product(STEPS_PER_UPDATE, NUM_ACTORS):
            assignments = ["training.gradient_steps_per_iteration=1"]
            if actors is not None:
                assignments.append(f"training.num_actors={actors}")
            size = ("--train-freq", str(steps), "--steps", str(8_000 * steps))
            document = measure_dqnkit(*REVERB_LOOP, *size, *set_options(assignments))
            rate = document["steps_per_second"]
            rates.setdefault((steps, actors), []).append(rate)
            print(
                f"round {number}: {steps} steps per update, {NUM_ACTORS[actors]}: "
                f"{rate:,.0f} steps/s",
                flush=True,
            )
    return report.make_section(
        f"environment steps per second, medians of {rounds} alternating rounds (minimum to "
        "maximum)",
        ("environment steps per update", *NUM_ACTORS.values()),
        [
            [str(steps), *(report.spread(rates[steps, actors], ",.0f") for actors in NUM_ACTORS)]
            for steps in STEPS_PER_UPDATE
        ],
    )


SECTIONS: dict[str, dict[str, Callable[[int], str]]] = {
    "current": {
        "speed": loops_section,
        "host": host_section,
        "variants": variants_section,
        "processes": processes_section,
    },
    "reverb": {"reverb": reverb_section, "actors": actors_section},
}
"""Functions that measure the sections of `docs/benchmarks.md`, by world and name."""


def enter_reverb_environment() -> None:
    """Restart this script in the environment that has Reverb, unless it runs there already."""
    if find_spec("reverb") is not None:
        return
    python = REVERB_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} does not exist: create the environment as in docs/reverb.md")
    os.execv(python, [str(python), *sys.argv])


def main() -> None:
    parser = report.make_parser(__doc__)
    names = "; ".join(f"world {world}: {', '.join(named)}" for world, named in SECTIONS.items())
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=names)
    parser.add_argument("--world", default="current", choices=SECTIONS)
    parser.add_argument("--rounds", type=report.positive_int, default=5)
    report.add_dry_option(parser)
    args = parser.parse_args()
    sections = SECTIONS[args.world]
    if unknown := sorted(set(args.sections) - set(sections)):
        parser.error(
            f"unknown sections of world {args.world}: {', '.join(unknown)} "
            f"(choose from {', '.join(sections)})"
        )

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if args.world == "reverb":
        enter_reverb_environment()
    for name in args.sections or sections:
        markdown = sections[name](args.rounds)
        print("\n" + markdown)
        if not args.dry:
            report.write_section(name, markdown)


if __name__ == "__main__":
    main()
