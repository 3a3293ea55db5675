"""Reaching a Reverb server, and what is said when it cannot be used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from dqnkit.config import ReplayConfig
from dqnkit.errors import ConfigError, ReplayError
from dqnkit.fields import known
from dqnkit.replay.reverb.library import reverb, tf
from dqnkit.replay.reverb.tables import REPLAY, Limits, Recipe

_ANSWER_SECONDS = 10


@contextlib.contextmanager
def explained(address: str) -> Iterator[None]:
    """Turns what Reverb raises when its server is gone into one message.

    Raises:
      ReplayError: It is.
    """
    try:
        yield
    except (RuntimeError, reverb.ReverbError, tf.errors.OpError) as error:
        text = " ".join(str(error).split())[:300]
        raise ReplayError(
            f"the replay server at {address} does not answer: {text}. Start it by `dqnkit "
            "replay-server`, with the same experiment, and go on"
        ) from error


def connect(
    address: str, config: ReplayConfig, recipe: Recipe, limits: Limits | None = None
) -> Any:
    """A client of a server that keeps what a run needs.

    Args:
      address: Of it.
      config: What the run needs.
      recipe: Of its transitions.
      limits: How fast it draws them; None for who draws nothing.

    Raises:
      ConfigError: It keeps something else.
      ReplayError: It does not answer.
    """
    client = reverb.Client(address)
    with explained(address):
        info = client.server_info(_ANSWER_SECONDS)
    if REPLAY not in info:
        raise ConfigError(
            f"replay.address={address}: the server there has no table {REPLAY!r}: it is not one "
            "of `dqnkit replay-server`"
        )
    there, wanted = _described(info[REPLAY]), _wanted(config, recipe)
    if limits is None:
        del there["samples_per_insert"]
    else:
        # A limiter that lets everything through has a ratio too, of 1.
        wanted["samples_per_insert"] = limits.samples_per_insert or 1.0
    if there != wanted:
        differing = sorted(name for name in wanted if there[name] != wanted[name])
        parts = [f"{name} {there[name]}, not {wanted[name]}" for name in differing]
        raise ConfigError(
            f"replay.address={address}: the server there was started for another experiment: it "
            f"has {'; '.join(parts)}. Start one by `dqnkit replay-server` with this experiment"
        )
    return client


def _described(info: Any) -> dict[str, Any]:
    prioritized = info.sampler_options.HasField("prioritized")
    return {
        "transitions": info.max_size,
        "samples_per_insert": info.rate_limiter_info.samples_per_insert,
        "alpha": info.sampler_options.prioritized.priority_exponent if prioritized else None,
        "signature": _plain(info.signature),
    }


def _wanted(config: ReplayConfig, recipe: Recipe) -> dict[str, Any]:
    return {
        "transitions": config.replay_buffer_max_length,
        "alpha": known(config.alpha) if config.is_prioritized else None,
        "signature": _plain(recipe.signature()),
    }


def _plain(signature: Any) -> dict[str, str]:
    """Shapes and types, without names."""
    return {k: f"{v.dtype.name}{v.shape.as_list()}" for k, v in (signature or {}).items()}
