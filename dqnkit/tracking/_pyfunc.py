"""The code of a policy as an MLflow model: observations in, actions out.

MLflow copies this file into the model and runs it wherever the model is loaded. It therefore
imports nothing from dqnkit.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np


class PolicyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """A greedy policy from the SavedModel beside this file."""

    def load_context(self, context: Any) -> None:
        """Load the SavedModel."""
        import tensorflow as tf  # only where a policy is used

        self._model = tf.saved_model.load(context.artifacts["saved_model"])
        self._serve = self._model.signatures["serving_default"]

    # MLflow reads type hints of `predict` as a schema, and accepts arrays only without them.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return actions int32 [B] for a batch of observations.

        Args:
          context: Unused; part of MLflow's interface.
          model_input: An array or a table, or arrays by name. The axes of an observation may be
            flattened into one.
          params: Unused; part of MLflow's interface.
        """
        del context, params
        import tensorflow as tf  # loaded already

        tensors = {}
        for name, spec in self._serve.structured_input_signature[1].items():
            given = model_input[name] if isinstance(model_input, dict) else model_input
            values = np.asarray(given, spec.dtype.as_numpy_dtype)
            tensors[name] = tf.constant(values.reshape(len(values), *spec.shape[1:]))
        return self._serve(**tensors)["actions"].numpy()


mlflow.models.set_model(PolicyModel())
