"""Writing a policy as an MLflow model."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from dqnkit._system.stderr import quiet_stderr
from dqnkit.envs.specs import ArraySpec, ObservationKind, ObservationSpec
from dqnkit.tracking.policy_folder import PolicyFiles


def write(policy: PolicyFiles, folder: Path) -> None:
    """Write the model: SavedModel, configuration, serving code, signature and requirements."""
    observation = policy.spec.observation
    signature = ModelSignature(
        inputs=Schema(
            [
                TensorSpec(
                    np.dtype(array.env_dtype),
                    (-1, *observation.stacked(array.shape)),
                    name if observation.is_record else None,
                )
                for name, array in zip(observation.input_names, observation.arrays, strict=True)
            ]
        ),
        outputs=Schema([TensorSpec(np.dtype(np.int32), (-1,))]),
    )
    with quiet_stderr():
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(Path(__file__).with_name("_pyfunc.py")),
            artifacts={"saved_model": str(policy.saved_model), "config": str(policy.config)},
            input_example=_example(policy.spec.observation),
            signature=signature,
            # MLflow would otherwise infer them in a process of its own.
            pip_requirements=[
                f"{name}=={version(name)}" for name in ("mlflow", "numpy", "tensorflow")
            ],
            metadata={
                "env": policy.spec.id,
                "num_actions": policy.spec.num_actions,
                "first_action": policy.spec.first_action,
            },
        )


def _example(observation: ObservationSpec) -> np.ndarray | dict[str, np.ndarray]:
    """Return an observation [1, *shape] of zeros or of the values nearest to zero, by name."""
    examples = {
        name: _example_array(array, observation)
        for name, array in zip(observation.input_names, observation.arrays, strict=True)
    }
    return examples if observation.is_record else examples["observations"]


def _example_array(array: ArraySpec, observation: ObservationSpec) -> np.ndarray:
    if array.kind is ObservationKind.DISCRETE:
        values = np.reshape(array.first_values, array.shape)
    else:
        values = np.clip(np.zeros(array.size), array.low, array.high).reshape(array.shape)
    shape = (1, *observation.stacked(array.shape))
    return np.broadcast_to(values, shape).astype(array.env_dtype)
