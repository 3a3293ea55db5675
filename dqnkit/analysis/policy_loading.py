"""Loading a saved policy, to act with it in Python."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dqnkit._system.files import kept_working_directory
from dqnkit.envs.resolution import resolve
from dqnkit.tracking.location import AUTO, locate_optional_store
from dqnkit.tracking.references import find_policy
from dqnkit.tracking.store import RunStore

if TYPE_CHECKING:  # loads TensorFlow
    from dqnkit.agents.policies import SavedPolicy


def load_policy(run: str, *, tracking_uri: str | None = AUTO) -> SavedPolicy:
    """Load the best policy of a run.

    Args:
      run: Reference to the run (`dqnkit.tracking.references.FORMS`), or the folder of a policy.
      tracking_uri: URI of the store; None needs the folder of a policy.

    Returns:
      The policy: `policy.predict(observations)` gives actions, `policy.spec` describes its
      environment.

    Raises:
      ConfigError: If the reference is wrong, or the run has no policy.
      UnsupportedEnvironmentError: If the environment is not installed.
      PolicyError: If files of the policy are damaged.
      TrackingError: If the store cannot be read.
    """
    location = locate_optional_store(tracking_uri)
    store = RunStore(location) if location else None
    with kept_working_directory(), tempfile.TemporaryDirectory(prefix="dqnkit-") as scratch:
        source = find_policy(store, run, Path(scratch))
        _, spec = resolve(source.folder.config)
        from dqnkit.agents.policies import SavedPolicy

        return SavedPolicy(source.folder.saved_model, spec)
