"""Text that a terminal shows."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType


def shown(renderable: RenderableType, width: int = 120) -> str:
    """Return what a terminal of some width shows."""
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
