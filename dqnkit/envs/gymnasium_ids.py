"""What Gymnasium knows of an environment id. The one home of `gymnasium` in this package."""

from __future__ import annotations

import difflib
import warnings

import gymnasium

from dqnkit.errors import UnsupportedEnvironmentError


def check_discrete_actions(env_id: str) -> None:
    """Makes the environment once and looks at its action space.

    Raises:
      UnsupportedEnvironmentError: It cannot be made, or its actions are not discrete; the
        message names the nearest id, or the space.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env = gymnasium.make(env_id)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UnsupportedEnvironmentError(
            f"env.id: {env_id!r} needs a package that is not installed: {error}"
        ) from error
    except (gymnasium.error.Error, ImportError, ValueError) as error:
        nearest = difflib.get_close_matches(env_id, gymnasium.registry, n=1)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest and nearest[0] != env_id else ""
        reason = " ".join(str(error).split())
        raise UnsupportedEnvironmentError(
            f"env.id: Gymnasium cannot make {env_id!r}{hint}: {reason}"
        ) from error
    space = env.action_space
    env.close()
    if not isinstance(space, gymnasium.spaces.Discrete):
        raise UnsupportedEnvironmentError(
            f"env.id: the actions of {env_id!r} are {space}; a DQN needs a Discrete space: "
            "choose an environment with discrete actions, or wrap this one"
        )
