"""How fast dqnkit's loops are beside the tutorial's loop and Stable-Baselines3, in one call.

    uv run --extra box2d python benchmarks/speed.py
    uv run python benchmarks/speed.py --world reverb

With `--world reverb` in the environment of the extra `reverb`, which docs/reverb.md says how to
make. Contestants alternate, each in a fresh process, so that a busy minute hits all of them. Prints
medians and ratios, and writes the tables of `docs/benchmarks.md`. Takes about twenty minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import family
import report

HERE = Path(__file__).resolve().parent
REVERB_ENVIRONMENT = HERE.parent / ".venv-reverb"
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


def run(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """The JSON document that a contestant prints last; threads as it sets them by itself."""
    command = [python, "-W", "ignore", str(HERE / script), *arguments]
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
        stable_baselines = run(sb3, "sb3_loop.py")["steps_per_second"]
        ours = run(sys.executable, "dqnkit_loop.py")
        for name, value in (
            ("tutorial", tutorial),
            ("sb3", stable_baselines),
            ("dqnkit", ours["steps_per_second"]),
            ("compile", ours["compile_seconds"]),
        ):
            rates[name].append(value)
        print(
            f"round {number}: tutorial {tutorial:,.0f} it/s, Stable-Baselines3 "
            f"{stable_baselines:,.0f} it/s, dqnkit {ours['steps_per_second']:,.0f} it/s "
            f"(compiled in {ours['compile_seconds']:.1f} s)",
            flush=True,
        )
    return rates


class HostContest(NamedTuple):
    """What the host loop does, and what Stable-Baselines3 does beside it."""

    what: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


ONE_BY_ONE, SIXTEEN = ("--train-freq", "1"), ("--train-freq", "16")
HOST_CONTESTS = (
    HostContest("1 environment, 1 step, 1 update", ONE_BY_ONE, ONE_BY_ONE),
    HostContest("1 environment, 16 steps, 16 updates", SIXTEEN, SIXTEEN),
    HostContest("8 environments and 8 updates a step, against 1", ("--num-envs", "8"), ONE_BY_ONE),
)
HOST_ENVIRONMENTS = ("CartPole-v1", "LunarLander-v3")


def measure_host(rounds: int) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Environment steps a second, (ours, theirs) of each round by (environment, contest)."""
    sb3 = sb3_python()
    rates: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number in range(1, rounds + 1):
        for env_id, contest in itertools.product(HOST_ENVIRONMENTS, HOST_CONTESTS):
            env = ("--env", env_id)
            theirs = run(sb3, "sb3_loop.py", *env, *contest.theirs)["steps_per_second"]
            steps = ("--loop", "host", "--steps", "16000")
            ours = run(sys.executable, "dqnkit_loop.py", *env, *steps, *contest.ours)
            pair = (ours["steps_per_second"], theirs)
            rates.setdefault((env_id, contest.what), []).append(pair)
            print(
                f"round {number}: {env_id}, {contest.what}: dqnkit {pair[0]:,.0f} steps/s, "
                f"Stable-Baselines3 {theirs:,.0f}: {pair[0] / theirs:.1f}",
                flush=True,
            )
    return rates


def host_table(rates: dict[tuple[str, str], list[tuple[float, float]]]) -> str:
    rounds = len(next(iter(rates.values())))
    lines = [
        f"{report.machine()}; environment steps a second, medians of {rounds} alternating rounds, "
        "ratios of each round (least to greatest).",
        "",
        "| environment | a contest | dqnkit, host loop | Stable-Baselines3 | dqnkit is faster by |",
        "|---|---|---|---|---|",
    ]
    for (env_id, what), pairs in rates.items():
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [mine / other for mine, other in pairs]
        lines.append(
            f"| {env_id} | {what} | {ours:,.0f} | {theirs:,.0f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )
    return "\n".join(lines)


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


def measure_variants(rounds: int) -> dict[str, list[float]]:
    """Iterations a second of the graph loop, by variant."""
    rates: dict[str, list[float]] = {}
    for number in range(1, rounds + 1):
        for variant, switches in {**family.VARIANTS, family.RAINBOW: family.TOGETHER}.items():
            # The tutorial's discount of 1 leaves no range of returns worth learning.
            settings = ("agent.gamma=0.99", *switches)
            arguments = [part for each in settings for part in ("--set", each)]
            rate = run(sys.executable, "dqnkit_loop.py", *arguments)["steps_per_second"]
            rates.setdefault(variant, []).append(rate)
            print(f"round {number}: {variant}, {rate:,.0f} it/s", flush=True)
    return rates


def variants_table(rates: dict[str, list[float]]) -> str:
    rounds = len(rates["DQN"])
    lines = [
        f"{report.machine()}; medians of {rounds} alternating rounds, ratios of each round (least "
        "to greatest).",
        "",
        "| agent, graph loop | iterations/s | takes as long as plain DQN times |",
        "|---|---|---|",
    ]
    for variant, each in rates.items():
        ratios = [plain / rate for plain, rate in zip(rates["DQN"], each, strict=True)]
        factor = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(
            f"| {variant} | {statistics.median(each):,.0f} | {'' if variant == 'DQN' else factor} |"
        )
    return "\n".join(lines)


class ReverbContest(NamedTuple):
    """The tutorial's loop does one step and one update; ours does as many of both."""

    what: str
    ours: tuple[str, ...]


REVERB = ("--set", "replay.kind=reverb")
REVERB_CONTESTS = (
    ReverbContest("1 step, 1 update", ONE_BY_ONE),
    ReverbContest("16 steps, 16 updates", SIXTEEN),
)


def measure_reverb(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Iterations a second, (ours, the tutorial's) of each round by contest."""
    rates: dict[str, list[tuple[float, float]]] = {}
    for number in range(1, rounds + 1):
        tutorial = run(sys.executable, "tutorial_loop.py", "--replay", "reverb")
        theirs = tutorial["iterations_per_second"][0]
        for contest in REVERB_CONTESTS:
            loop = ("--loop", "host", "--steps", "16000", *contest.ours, *REVERB)
            ours = run(sys.executable, "dqnkit_loop.py", *loop)["steps_per_second"]
            rates.setdefault(contest.what, []).append((ours, theirs))
            print(
                f"round {number}: {contest.what}: dqnkit {ours:,.0f} it/s, tutorial {theirs:,.0f}: "
                f"{ours / theirs:.1f}",
                flush=True,
            )
    return rates


def reverb_table(rates: dict[str, list[tuple[float, float]]]) -> str:
    rounds = len(next(iter(rates.values())))
    lines = [
        f"{report.machine()}; environment steps a second, with an update each; medians of {rounds} "
        "alternating rounds, ratios of each round (least to greatest).",
        "",
        "| dqnkit does in turn | dqnkit, host loop with Reverb | the tutorial's loop with Reverb "
        "| dqnkit is faster by |",
        "|---|---|---|---|",
    ]
    for what, pairs in rates.items():
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratios = [mine / other for mine, other in pairs]
        lines.append(
            f"| {what} | {ours:,.0f} | {theirs:,.0f} "
            f"| {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )
    return "\n".join(lines)


STEPS_AN_UPDATE = (1, 8)
ACTORS = (None, 1, 2, 4)


def measure_actors(rounds: int) -> dict[tuple[int, int | None], list[float]]:
    """Environment steps a second, by steps an update and actors (None: in one process)."""
    rates: dict[tuple[int, int | None], list[float]] = {}
    for number in range(1, rounds + 1):
        for steps, actors in itertools.product(STEPS_AN_UPDATE, ACTORS):
            loop = ("--loop", "host", "--train-freq", str(steps), "--steps", f"{8_000 * steps}")
            settings = ["training.gradient_steps_per_iteration=1"]
            if actors is not None:
                settings.append(f"training.num_actors={actors}")
            arguments = [part for each in settings for part in ("--set", each)]
            rate = run(sys.executable, "dqnkit_loop.py", *loop, *REVERB, *arguments)
            rates.setdefault((steps, actors), []).append(rate["steps_per_second"])
            print(
                f"round {number}: {steps} steps an update, {actors} actors: "
                f"{rate['steps_per_second']:,.0f} steps/s",
                flush=True,
            )
    return rates


def actors_table(rates: dict[tuple[int, int | None], list[float]]) -> str:
    rounds = len(next(iter(rates.values())))
    lines = [
        f"{report.machine()}; environment steps a second, medians of {rounds} alternating rounds "
        "(least to greatest).",
        "",
        "| environment steps an update | one process, in turn | 1 actor | 2 actors | 4 actors |",
        "|---|---|---|---|---|",
    ]
    for steps in STEPS_AN_UPDATE:
        cells = []
        for actors in ACTORS:
            each = rates[steps, actors]
            low, high = min(each), max(each)
            cells.append(f"{statistics.median(each):,.0f} ({low:,.0f} to {high:,.0f})")
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    return "\n".join(lines)


SECTIONS = {
    "speed": lambda rounds: loops_table(measure_loops(rounds)),
    "host": lambda rounds: host_table(measure_host(rounds)),
    "variants": lambda rounds: variants_table(measure_variants(rounds)),
    "processes": lambda _: processes_table(measure_processes()),
}

REVERB_SECTIONS = {
    "reverb": lambda rounds: reverb_table(measure_reverb(rounds)),
    "actors": lambda rounds: actors_table(measure_actors(rounds)),
}
WORLDS = {"current": SECTIONS, "reverb": REVERB_SECTIONS}


def enter_reverb() -> None:
    """Goes on in the environment that has Reverb."""
    if find_spec("reverb") is not None:
        return
    python = REVERB_ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"there is no {python}: docs/reverb.md says how to make it")
    os.execv(python, [str(python), *sys.argv])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ", ".join([*SECTIONS, *REVERB_SECTIONS])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=names)
    parser.add_argument("--world", default="current", choices=WORLDS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print the tables, write nothing")
    args = parser.parse_args()

    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if args.world == "reverb":
        enter_reverb()
    for section in args.sections or WORLDS[args.world]:
        markdown = WORLDS[args.world][section](args.rounds)
        print("\n" + markdown)
        if not args.dry:
            report.write(section, markdown)


if __name__ == "__main__":
    main()
