"""Environments: dynamics as TensorFlow operations, and what Gymnasium knows of an id."""
