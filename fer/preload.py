"""What a worker process imports while its parent still reads the data."""

import torch

import fer.pipeline  # noqa: F401

# The first optimizer imports for another second.
torch.optim.SGD([torch.zeros(1)])
