"""A saved policy as an MLflow model: observations in, actions out.

MLflow copies this file into the model and runs it where the model is loaded, so it may import
nothing of dqnkit.
"""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np


class PolicyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc,name-defined]
    """Loads the SavedModel beside it and acts greedily."""

    def load_context(self, context: Any) -> None:
        """Loads the policy once."""
        import tensorflow as tf  # only where a policy is used

        self._model = tf.saved_model.load(context.artifacts["saved_model"])
        self._serve = self._model.signatures["serving_default"]

    # MLflow reads hints of `predict` as a schema, and takes arrays only where there is none.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Actions int32 [B] for a batch of observations, array or table."""
        del context, params
        import tensorflow as tf  # loaded already

        spec = self._serve.structured_input_signature[1]["observations"]
        observations = np.asarray(model_input, spec.dtype.as_numpy_dtype)
        return self._serve(observations=tf.constant(observations))["actions"].numpy()


mlflow.models.set_model(PolicyModel())
