"""The names and shapes of a module's weights, without memory for them and without PyTorch's compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_KEEPING = frozenset(
    {
        *(Tensor.normal_, Tensor.uniform_, Tensor.copy_, Tensor.fill_, Tensor.zero_, Tensor.clamp_, Tensor.erfinv_),
        *(Tensor.mul, Tensor.mul_, Tensor.div, Tensor.div_, Tensor.add, Tensor.add_, Tensor.sub, Tensor.sub_),
        *(torch.cumsum, torch.clamp, torch.log, torch.logit, torch.expm1),
    }
)
"""What a random start does to a tensor: none of it changes a shape where the others have the same, or are numbers."""
_ALIKE = {Tensor.mean: Tensor.sum}
"""What gives the same shape."""


class _ShapesOnly(TorchFunctionMode):
    """Leaves tensors as they are where only their values would change.

    On the device ``meta``, some of these functions load PyTorch's compiler when they are first called: a second or more, and a
    thousand modules, for values that nobody looks at. A function that is not named here is called as ever.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__module__", "") == nn.init.__name__ and isinstance(given.get("tensor"), Tensor):
            return given["tensor"]
        if func in _KEEPING and _is_alike(args):
            return args[0]
        return _ALIKE.get(func, func)(*args, **given)


def _is_alike(args: Sequence[Any]) -> bool:
    """Whether the first is a tensor without values, and the other tensors have its shape."""
    first = args[0] if args else None
    if not isinstance(first, Tensor) or first.device.type != "meta":
        return False
    return all(other.shape == first.shape for other in args[1:] if isinstance(other, Tensor))


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name of each weight -> its shape.

    Args:
        build: Makes the module.

    Example:
        >>> shapes_of(lambda: nn.Linear(10**6, 10**6))["weight"]
        (1000000, 1000000)
    """
    with torch.device("meta"), _ShapesOnly():
        return {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
