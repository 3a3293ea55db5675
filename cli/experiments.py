"""The commands `dqnkit experiments` and `dqnkit schema`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import options


def experiments(
    name: Annotated[
        str | None,
        typer.Argument(help="Show the configuration of this one.", show_default=False),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the committed experiments, or show one."""
    import json  # loaded here to keep `--help` fast

    from cli.output import say
    from dqnkit.config import loading as library

    if name is not None:
        config = library.load(name)
        document = config.model_dump(mode="json")
        say(json.dumps(document, indent=2) if as_json else library.dump(config).rstrip())
        return
    configs = [library.load(each) for each in library.experiment_names()]
    if as_json:
        rows = {c.name: {"env": c.env.id, "description": c.description} for c in configs}
        say(json.dumps(rows, indent=2))
        return
    name_width = max(len(each.name) for each in configs) + 2
    env_width = max(len(each.env.id) for each in configs) + 2
    for each in configs:
        say(f"{each.name:<{name_width}}{each.env.id:<{env_width}}{each.description}")


def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from cli.output import say
    from dqnkit.config import loading as library

    say(library.json_schema().rstrip())
