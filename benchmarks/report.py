"""What the benchmarks share: the machine, and tables inside `docs/benchmarks.md`."""

from __future__ import annotations

import datetime as dt
import os
import platform
from importlib.metadata import version
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def machine() -> str:
    """One line on what a figure was measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "?")
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()}, CPython "
        f"{platform.python_version()}, TensorFlow {version('tensorflow')}, "
        f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}"
    )


def write(section: str, markdown: str, document: Path = DOCUMENT) -> None:
    """Replaces what stands between a section's markers in a document."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{document} has no markers of the section {section!r}")
    document.write_text(f"{before}{begin}\n{markdown.strip()}\n{end}{after}", encoding="utf-8")


def write_row(section: str, header: str, start: str, row: str) -> None:
    """Replaces a section's first line, and the row of its table that begins with `start`.

    A row that is not there yet goes to the end.
    """
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    text = DOCUMENT.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    lines = [header, *text.strip().splitlines()[1:]]
    matching = [i for i, line in enumerate(lines) if line.startswith(start)]
    for i in matching:
        lines[i] = row
    write(section, "\n".join(lines if matching else [*lines, row]))
