"""Parameter: a tensor that a module learns."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.autograd.engine import Node, wrap
from minigrad.autograd.grad_mode import grad_mode
from minigrad.device import new_on
from minigrad.dtypes import get_default_dtype
from minigrad.tensor import Tensor, tensor


class Parameter(Tensor):
    """A leaf tensor that, assigned to an attribute of a Module, becomes one of its parameters.

    `data` is a tensor, whose value is shared, or anything that `mg.tensor` takes.
    """

    __slots__ = ()

    def __new__(cls, data: Any = (), requires_grad: bool = True) -> Parameter:
        node = object.__new__(cls)
        node.value = data.value if isinstance(data, Node) else tensor(data).value
        node.op = node._grad = node.hooks = None
        node.written = 0
        node.live = False
        if requires_grad:
            node.requires_grad_()  # refuses integers
        return node

    def __init__(self, data: Any = (), requires_grad: bool = True) -> None:
        pass  # all done by __new__

    def __getitem__(self, index: Any) -> Any:
        """Under no_grad what is written to a part goes to the parameter: `bias[a:b].fill_(1)`."""
        return super().__getitem__(index) if grad_mode.enabled else self.data[index]

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        return type(self)(Tensor.clone(self.detach()), self.requires_grad)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.value, self.requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


def empty_parameter(shape: tuple[int, ...], device: Any = None, dtype: Any = None) -> Parameter:
    """A parameter of zeros, to be filled by `nn.init`."""
    value = np.zeros(shape, get_default_dtype() if dtype is None else dtype)
    return Parameter(wrap(new_on(device, value)))
