"""The search for a better configuration, by Optuna. The only package that imports it."""
