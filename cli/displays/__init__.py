"""Live displays."""
