"""Processes that train one run after another, for whoever has many to train."""
