"""minigrad: PyTorch's names on NumPy arrays, for recurrent nets."""

from minigrad import random as random
from minigrad.autograd.engine import grad
from minigrad.autograd.grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from minigrad.tensor import Tensor, tensor
