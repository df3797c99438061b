"""Benchmarks of the training pipeline, side by side, and of the harness's overhead."""
