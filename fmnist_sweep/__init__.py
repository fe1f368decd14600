"""Experiment-tracking hyperparameter sweeps for image classifiers, on Fashion-MNIST."""

__version__ = "0.1.0"
