"""A back end for pymanopt, as a user would write it: costs in NumPy, derivatives by tensorgrad."""

from typing import Any

from pymanopt.autodiff import backend_decorator_factory
from pymanopt.autodiff.backends._backend import Backend
from pymanopt.tools import bisect_sequence

import tensorgrad as tg


class TensorgradBackend(Backend):
    def __init__(self) -> None:
        super().__init__("tensorgrad")

    @staticmethod
    def is_available() -> bool:
        return True

    def prepare_function(self, function: Any) -> Any:
        return function

    def generate_gradient_operator(self, function: Any, num_arguments: int) -> Any:
        return tg.grad(function, 0 if num_arguments == 1 else tuple(range(num_arguments)))

    def generate_hessian_operator(self, function: Any, num_arguments: int) -> Any:  # noqa: ARG002
        def product(*points_and_directions: Any) -> Any:
            return tg.hvp(function, *map(tuple, bisect_sequence(points_and_directions)))

        return product


tensorgrad = backend_decorator_factory(TensorgradBackend)
