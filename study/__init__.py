"""Hyperparameter studies over the training pipeline of `fer`."""
