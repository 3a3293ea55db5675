"""A fingerprint of everything in a configuration that changes what is learned."""

from __future__ import annotations

import hashlib
import json

from dqnkit.config.sections import Config

SEED = "training.seed"
IRRELEVANT = (
    SEED,
    "description",
    "env.step_timeout",
    "tracking.enabled",
    "tracking.tags",
    "training.checkpoint_interval",
)
"""Keys that do not change what is learned; the seed has a special role."""


def fingerprint(config: Config) -> str:
    """Return the same text for configurations that differ in nothing but `IRRELEVANT` keys.

    MLflow cuts long parameters, which therefore cannot tell configurations apart.
    """
    relevant = {key: value for key, value in config.flat().items() if key not in IRRELEVANT}
    document = json.dumps(relevant, sort_keys=True, default=str)
    return hashlib.sha256(document.encode()).hexdigest()[:16]
