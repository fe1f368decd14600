"""A table of configurations trained to the end, and searches replayed on it."""
