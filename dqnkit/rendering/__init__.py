"""Videos of policies: frame by frame from the environment into the file."""
