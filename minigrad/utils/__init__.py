"""Tools beside the training loop."""

from minigrad.utils import checkpoint as checkpoint
