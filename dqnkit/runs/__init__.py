"""Training: loops that advance it by a chunk, and the run that everything hangs on."""
