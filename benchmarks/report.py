"""Helpers that the benchmark scripts share: arguments, commands, and sections of documents."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from dqnkit.evaluation.formatting import markdown_table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
DQNKIT = str(Path(sys.executable).with_name("dqnkit"))
"""Path of the command `dqnkit` in the current environment."""


# -- Arguments


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows the docstring of a script as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_dry_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--dry`, which keeps a script from writing into the documents."""
    parser.add_argument("--dry", action="store_true", help="print the results, write nothing")


def positive_int(text: str) -> int:
    """Parse an argument that must be an integer of at least 1."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return value


# -- Commands


def run_command(
    command: Sequence[str],
    *,
    folder: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command and return what it wrote to stdout; exit with its stderr if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(
            f"{' '.join(command)} failed with exit status {done.returncode}:\n{done.stderr}"
        )
    return done.stdout


def time_command(
    command: Sequence[str],
    *,
    folder: Path | str | None = None,
    environment: Mapping[str, str] | None = None,
    repeats: int = 1,
) -> float:
    """Return the median wall time of a command in seconds.

    Args:
      command: The command and its arguments.
      folder: Working directory; by default, each repetition has a new, empty one.
      environment: Environment variables; by default, those of this process.
      repeats: Number of repetitions.
    """
    seconds = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as empty:
            start = time.perf_counter()
            run_command(command, folder=folder or empty, environment=environment)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def make_interpreter(name: str) -> str:
    """Return the Python of a separate environment, which the first call creates.

    Args:
      name: Name of the environment, whose packages are listed in `requirements-NAME.txt`.
    """
    environment = ROOT / ".benchmarks" / name
    python = environment / "bin" / "python"
    is_complete = environment / "ready"
    if not is_complete.exists():
        run_command([sys.executable, "-m", "venv", "--clear", str(environment)])
        requirements = str(HERE / f"requirements-{name}.txt")
        run_command([str(python), "-m", "pip", "install", "-qr", requirements])
        is_complete.touch()
    return str(python)


# -- Results


def machine() -> str:
    """Return one line on the machine, the versions and the date of a measurement."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "?")
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()}, CPython "
        f"{platform.python_version()}, TensorFlow {version('tensorflow')}, "
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}"
    )


def spread(values: Iterable[float], format_spec: str = ".1f") -> str:
    """Format the median of the values, with the least and the greatest in parentheses."""
    ordered = sorted(values)
    middle, low, high = statistics.median(ordered), ordered[0], ordered[-1]
    return f"{middle:{format_spec}} ({low:{format_spec}} to {high:{format_spec}})"


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def make_section(conditions: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return Markdown with the machine, the conditions of a measurement, and its table."""
    first = "; ".join(part for part in (machine(), conditions) if part)
    return f"{first}.\n\n{markdown_table(header, rows)}"


def write_section(section: str, markdown: str, document: Path = DOCUMENT) -> None:
    """Replace the text between the markers of a section in a document."""
    begin, end = _markers(section)
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{document} has no markers {begin} and {end}")
    document.write_text(f"{before}{begin}\n{markdown.strip()}\n{end}{after}", encoding="utf-8")


def write_row(
    section: str, first_line: str, start: str, row: str, document: Path = DOCUMENT
) -> None:
    """Replace the first line of a section and one row of its table in a document.

    Args:
      section: Name of the section.
      first_line: The new first line.
      start: Beginning of the row that is replaced; if no row begins so, the row is appended.
      row: The new row.
      document: The document.
    """
    begin, end = _markers(section)
    text = document.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    lines = [first_line, *text.strip().splitlines()[1:]]
    matching = [i for i, line in enumerate(lines) if line.startswith(start)]
    for i in matching:
        lines[i] = row
    write_section(section, "\n".join(lines if matching else [*lines, row]), document)


def _markers(section: str) -> tuple[str, str]:
    return f"<!-- begin {section} -->", f"<!-- end {section} -->"
