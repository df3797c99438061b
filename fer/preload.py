"""Imports for a worker process to do while its parent reads the data."""

import torch

import fer.pipeline  # noqa: F401

# The first optimizer spends another second on imports.
torch.optim.SGD([torch.zeros(1)])
