"""The base class of optimizers: groups of parameters with options, steps, and the saved state."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..engine.arrays import working_dtype
from ..engine.modes import enable_grad, mode
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..errors import TraceError
from ..guide import guide, guided
from .flat import Flat, Part, by_dtype, distinct, listed, require_untraced

Parameters: TypeAlias = "Iterable[Tensor] | Iterable[dict[str, Any]]"
Options: TypeAlias = Mapping[str, Any]
State: TypeAlias = Callable[..., Array]
Coefficients: TypeAlias = tuple[Sequence[float], Callable[[int], Sequence[float]] | None]


def arguments(local_names: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor, from `locals()` in its first line.

    So the options are listed only in the signature, which editors and type checkers read, too.
    """
    return {name: x for name, x in local_names.items() if name not in ("self", "__class__")}


# -- options

# What an option must be, in words and as a test.
_Rule: TypeAlias = tuple[str, Callable[[Any], bool]]
_RULES: dict[str, _Rule] = {
    "betas": (
        "must be two numbers from 0 to below 1",
        lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
    ),
    "alpha": ("must be from 0 to 1", lambda alpha: 0 <= alpha <= 1),
}
_OTHERS: _Rule = ("must be finite and not negative", lambda x: 0 <= x < math.inf)
_UNCHECKED = ("params", "dampening")


class Group(dict[str, Any]):
    """The options of a group of parameters. Every change of an option changes `version`.

    A compiled step compares versions, which takes 20 ns; comparing two dicts takes 140 ns. No key
    can be added, because no step would read it.
    """

    __slots__ = ("_names", "version")

    def __init__(self, options: Options) -> None:
        # Lists become tuples: an assignment to an element would not change the version.
        super().__init__({k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
        self.version = 0
        self._names = [*self]

    def __reduce__(self) -> Any:
        return Group, (dict(self),)


def _changing(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def changing(self: Group, *args: Any, **kwargs: Any) -> Any:
        if mode.get().trace is not None:
            raise TraceError(
                "an option of an optimizer set by a compiled function would not be set in later "
                "calls: set it outside, or let a schedule do it"
            )
        changed = dict(self)
        result = method(changed, *args, **kwargs)
        if unknown := [name for name in changed if name not in self._names]:
            raise ValueError(
                f"param_groups: an optimizer would ignore {unknown}; its options are "
                f"{[name for name in self._names if name != 'params']}"
            )
        self.version += 1
        dict.update(self, changed)  # in one call, which Ctrl-C cannot divide
        for name in self.keys() - changed.keys():
            dict.__delitem__(self, name)
        return self if result is changed else result

    return changing


for _method in (
    dict.__delitem__, dict.__ior__, dict.__setitem__,
    dict.clear, dict.pop, dict.popitem, dict.setdefault, dict.update,
):  # fmt: skip
    setattr(Group, _method.__name__, _changing(_method))


# -- steps


@guide
class Optimizer:
    """The base class of optimizers: groups of parameters, each with options of its own.

    `params` are tensors that require grad, or dicts with tensors as `"params"` and options of that
    group. The constructor moves the parameters of each group and dtype into one vector, of which
    they become views; assigning their `data` writes into it. `param_groups` is a list of dicts of
    options, which can be changed between steps; assigning an option to the optimizer itself raises
    AttributeError. A step skips a parameter without a gradient, and does not count for it. A
    parameter that is listed twice is stepped once. Several optimizers can hold the same parameter,
    but it is copied whenever another one of them steps it. Raises ValueError for options out of
    their range.

    Optimizers can be pickled and copied, together with the module that holds the parameters.
    """

    vectors: ClassVar[tuple[str, ...]] = ()
    """The names of the vectors that it keeps beside the parameters."""

    decoupled: ClassVar[bool] = False
    """Whether weight decay changes the parameters themselves, and not their gradients."""

    def __init__(self, params: Parameters, **defaults: Any) -> None:
        if mode.get().trace is not None:
            raise TraceError(
                f"{type(self).__name__}: an optimizer made inside a compiled function would not be "
                "made again in each call: make it outside"
            )
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self._flats: list[list[Flat]] = []
        groups = listed(params, type(self).__name__)
        if not groups:
            raise ValueError(
                f"{type(self).__name__}: an empty list of parameters: those of a module are its "
                "tensors with requires_grad=True"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        option = "lr" if name == "learning_rate" else name
        is_option = option == "lr" or option in vars(self).get("defaults", ())
        if is_option and not hasattr(type(self), name):
            raise AttributeError(
                f"{type(self).__name__}: each group of parameters has its own options, so an "
                f"assigned {name!r} would have no effect: use "
                f"optimizer.param_groups[0][{option!r}] = {value!r}"
            )
        super().__setattr__(name, value)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters, `group["params"]`; options that the dict lacks have the defaults."""
        name = type(self).__name__
        require_untraced(f"{name}.add_param_group")
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if "params" not in group or unknown:
            raise ValueError(
                f"{name}: a group needs 'params', and can have {[*self.defaults]}, "
                f"not {sorted(unknown)}"
            )
        parameters = distinct([p] if isinstance(p := group["params"], Tensor) else p, name)
        held = {id(p) for other in self.param_groups for p in other["params"]}
        if not held.isdisjoint(map(id, parameters)):
            raise ValueError(f"{name}: a parameter is in more than one group")
        options = Group(self.defaults | group | {"params": tuple(parameters)})
        self._check(options)
        self._flats.append([Flat(like, name) for like in by_dtype(parameters)])
        self.param_groups.append(options)

    def _check(self, options: Options) -> None:
        for name, value in options.items():
            rule, holds = _RULES.get(name, _OTHERS)
            if name not in _UNCHECKED and not holds(value):
                self._refuse(options, name, rule)

    def _refuse(self, options: Options, name: str, rule: str) -> None:
        raise ValueError(f"{type(self).__name__}: {name}={options[name]} {rule}")

    def _coefficients(self, o: Options) -> Coefficients:
        """The numbers that `_update` takes: first the constant ones, then those of step t >= 1.

        The latter are a function of t, or None if there are none; that may depend only on which
        options are zero.
        """
        raise NotImplementedError

    def _all_coefficients(self, o: Options) -> Coefficients:
        """The coefficient of weight decay, if there is any, and those of `_update`."""
        if not (decay := o["weight_decay"]):
            return self._coefficients(o)
        constant, timed = self._coefficients(o)
        return (1 - o["lr"] * decay if self.decoupled else decay, *constant), timed

    def _coefficients_of_step(self, o: Options, t: int) -> tuple[float, ...]:
        constant, timed = self._all_coefficients(o)
        return tuple(map(float, (*constant, *timed(t)) if timed else constant))

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State, *coefficients: Any
    ) -> None:
        """Update the parameters `p` in place, by their gradients `g`; `s` is scratch memory.

        `state` finds the vectors that are kept between steps by name; at first they are zero.
        `coefficients` are 0-d arrays; of the options `o`, only whether they are zero may be read.
        `g` may be overwritten; if it is not, a compiled step saves a copy.
        """
        raise NotImplementedError

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients.

        A `closure` is called first, to compute the gradients; its result, the loss, is returned.
        """
        loss = None
        if closure is not None:
            if not callable(closure):
                raise TypeError(
                    f"step: the closure must be a function, not a {type(closure).__name__}: call "
                    "loss.backward() first, and step() without arguments"
                )
            with enable_grad():
                loss = closure()
        ready = [  # what can fail is done before the first change
            (group, flat, part, self._coefficients_of_step(group, part.steps + 1))
            for group, flats in zip(self.param_groups, self._flats)
            for flat in flats
            for part in flat.gather()
        ]
        trace = mode.get().trace
        for group, flat, part, coefficients in ready:
            if trace is None:
                part.steps += 1
                scalars = flat.scalars(coefficients)
                for block in part.blocks:
                    self._change(group, block.data, block.grad, block.scratch, block.state, scalars)
            else:
                self._trace_change(trace, group, flat, part)
        return loss

    def _change(
        self, o: Options, p: Array, g: Array, s: Array, state: State, coefficients: Sequence[Array]
    ) -> None:
        if o["maximize"]:
            np.negative(g, g)
        if o["weight_decay"]:
            decay, *coefficients = coefficients
            if self.decoupled:
                p *= decay
            else:
                g += np.multiply(p, decay, s)
        self._update(o, p, g, s, state, *coefficients)

    def _trace_change(self, trace: Any, group: Group, flat: Flat, part: Part) -> None:
        """Record the step of a part in the compiled program."""
        if not isinstance(group, Group):
            raise TraceError(
                f"{type(self).__name__}: a compiled step would not see changes of options in a "
                f"{type(group).__name__} in param_groups: update the groups that are there instead"
            )
        c = _CompiledCoefficients(self._all_coefficients, group, part.steps + 1, flat.grad.dtype)
        trace.require("{}.version == {}.version or {}()", group, c, c.refresh_if_alike)
        trace.inline("{}.steps += 1", part)
        # A schedule may have changed the group earlier in the same call.
        trace.inline("if {}.group.version != {}.version: {}()", c, c, c.refresh)
        if c.timed:
            targets = "{}[()], " * len(c.moving)
            trace.inline(f"{targets}= {{}}.timed({{}}.steps)", *c.moving, c, part)
        scalars = [*map(trace.state, (*c.constant, *c.moving))]
        for block in part.blocks:
            p, g, s = map(trace.state, (block.data, block.grad, block.scratch))
            self._change(
                group, p, g, s, lambda *name, block=block: trace.state(block.state(*name)), scalars
            )

    @guided
    def zero_grad(self) -> None:
        """Set the `grad` of every parameter to None."""
        for group in self.param_groups:
            for p in group["params"]:
                p.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that later steps depend on, but the parameters, in PyTorch's layout.

        `"state"` maps the number of each parameter to its count of steps and its arrays by name.
        `"param_groups"` holds the options; its parameters are replaced by their numbers.
        """
        require_untraced(f"{type(self).__name__}.state_dict")
        states = {
            id(p): state
            for flat in itertools.chain(*self._flats)
            for p, state in zip(flat.parameters, flat.state())
        }
        numbers = itertools.count()
        groups = [g | {"params": [next(numbers) for _ in g["params"]]} for g in self.param_groups]
        return {
            "state": {i: states[id(p)] for i, p in enumerate(self._parameters())},
            "param_groups": groups,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, here or in PyTorch.

        Raises ValueError, and changes nothing, if the groups, the shapes or the kind of optimizer
        differ, or if an option is out of its range.
        """
        require_untraced(f"{type(self).__name__}.load_state_dict")
        groups, states = state["param_groups"], state["state"]
        sizes = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"load_state_dict: groups of {sizes[1]} parameters for an optimizer of {sizes[0]}"
            )
        merged = [self._merged(mine, saved) for mine, saved in zip(self.param_groups, groups)]
        keys = itertools.chain(*(g["params"] for g in groups))
        loaded = {
            id(p): self._read(i, p, states.get(key, {}))
            for i, (p, key) in enumerate(zip(self._parameters(), keys))
        }
        for mine, options in zip(self.param_groups, merged):
            mine.update(options)
        for flat in itertools.chain(*self._flats):
            flat.load([loaded[id(p)] for p in flat.parameters])

    def _merged(self, mine: Group, saved: Mapping[str, Any]) -> dict[str, Any]:
        """The saved options of a group, checked, with the parameters that it has here."""
        if missing := mine.keys() - saved.keys():
            self._refuse_state(f"no option {sorted(missing)}")
        merged = {name: saved[name] for name in mine} | {"params": mine["params"]}
        self._check(merged)
        return merged

    def _refuse_state(self, fault: str) -> None:
        raise ValueError(
            f"load_state_dict: {fault}: this is not the state of {type(self).__name__}; "
            "load it into the kind of optimizer that saved it"
        )

    def _read(self, i: int, p: Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
        """The saved count of steps and the saved arrays of parameter `i`, checked."""
        if unknown := state.keys() - {"step", *self.vectors}:
            self._refuse_state(f"{sorted(unknown)} of parameter {i}")
        read: dict[str, Any] = {"step": int(state.get("step", bool(state)))}
        if read["step"] < 0:
            raise ValueError(f"load_state_dict: step {read['step']} of parameter {i} is negative")
        for name, value in state.items():
            if name != "step" and value is not None:
                read[name] = np.asarray(value, working_dtype(p.dtype))
                if read[name].shape != p.shape:
                    raise ValueError(
                        f"load_state_dict: {name} of shape {read[name].shape} for parameter {i}, "
                        f"of shape {p.shape}"
                    )
        return read

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __getstate__(self) -> Any:
        return self.defaults, self.param_groups, self.state_dict()

    def __setstate__(self, state: Any) -> None:
        defaults, groups, saved = state
        Optimizer.__init__(self, groups, **defaults)
        self.load_state_dict(saved)

    def __repr__(self) -> str:
        groups = [
            ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            + f" for {sum(p.size for p in group['params']):,} numbers"
            for group in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"


class _CompiledCoefficients:
    """The coefficients of a compiled step, in arrays that the program reads.

    The `constant` ones are those of the options of `version`; the `moving` ones are computed by
    `timed` in each step.
    """

    def __init__(
        self, coefficients: Callable[[Options], Coefficients], group: Group, t: int, dtype: Any
    ) -> None:
        constant, self.timed = coefficients(group)
        moving = self.timed(t) if self.timed else ()
        self.constant, self.moving = ([np.zeros((), dtype) for _ in x] for x in (constant, moving))
        self.group = group
        self.version = -1  # not yet written
        self._coefficients = coefficients
        self._nonzero = self._which_are_nonzero()

    def _which_are_nonzero(self) -> list[bool]:
        """Which options are not zero: the program depends on that."""
        return [bool(value) for name, value in self.group.items() if name != "params"]

    def refresh_if_alike(self) -> bool:
        """Take over changed options, if the program stays the same; return whether it does."""
        alike = self._which_are_nonzero() == self._nonzero
        if alike:
            self.refresh()
        return alike

    def refresh(self) -> None:
        """Write the constant coefficients of the present options."""
        constant, self.timed = self._coefficients(self.group)
        for array, number in zip(self.constant, constant):
            array[()] = number
        self.version = self.group.version
