"""The base class of optimizers: groups of parameters with options, steps, and the saved state."""

from __future__ import annotations

import functools
import itertools
import math
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..engine.arrays import working_dtype
from ..engine.interpreter import Tracing, epoch
from ..engine.modes import enable_grad, mode
from ..engine.tensor import Tensor
from ..engine.typing import Array
from ..errors import TraceError
from ..guide import guide, guided
from ..tables import WIDTH, Table
from .flat import Flat, Part, by_dtype, distinct, listed, require_untraced

Parameters: TypeAlias = "Iterable[Tensor] | Iterable[dict[str, Any]]"
Options: TypeAlias = Mapping[str, Any]
State: TypeAlias = Callable[..., Array]
# A float or, in a compiled step, a number of the compiler's, with the same arithmetic.
Number: TypeAlias = Any


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
    """The options of a group of parameters. No key can be added, because no step would read it.

    Compiled steps read arrays, to which the optimizer writes what follows from the options.
    `is_current` says whether they have what follows from the present ones, `nonzero` names those
    that are not zero, but for `lr`, where it is itself `settled`: programs depend on that.
    """

    __slots__ = ("_names", "is_current", "nonzero", "settled")

    def __init__(self, options: Options) -> None:
        # Lists become tuples: an assignment to an element would not be noticed.
        super().__init__({k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
        self.is_current = self.settled = False
        self.nonzero = ""
        self._names = [*self]

    def __setitem__(self, name: str, value: Any) -> None:  # as schedules do in each step
        _require_outside()
        if name not in self._names:
            self._require_known([name])
        self.is_current = False
        self.settled = self.settled and name == "lr"
        super().__setitem__(name, value)

    def _require_known(self, names: Iterable[str]) -> None:
        if unknown := [name for name in names if name not in self._names]:
            raise ValueError(
                f"param_groups: an optimizer would ignore {unknown}; its options are "
                f"{[name for name in self._names if name != 'params']}"
            )

    def __reduce__(self) -> Any:
        return Group, (dict(self),)


def _require_outside() -> None:
    mode.get().interpreter.require_eager(
        "an option of an optimizer set by a compiled function would not be set in later calls: set "
        "it outside, or let a schedule do it"
    )


def _changing(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def changing(self: Group, *args: Any, **kwargs: Any) -> Any:
        _require_outside()
        changed = dict(self)
        result = method(changed, *args, **kwargs)
        self._require_known(changed)
        self.is_current = self.settled = False
        dict.update(self, changed)  # in one call, which Ctrl-C cannot divide
        for name in self.keys() - changed.keys():
            dict.__delitem__(self, name)
        return self if result is changed else result

    return changing


for _method in (
    dict.__delitem__, dict.__ior__,
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

    options_of_step: ClassVar[tuple[str, ...]] = ()
    """The names of the options that `_coefficients_of_step` reads as numbers."""

    def __init__(self, params: Parameters, **defaults: Any) -> None:
        mode.get().interpreter.require_eager(
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
        of_step = {name: options[name] for name in self.options_of_step}
        self._flats.append([Flat(like, name, of_step) for like in by_dtype(parameters)])
        self.param_groups.append(options)

    def _check(self, options: Options) -> None:
        for name, value in options.items():
            rule, holds = _RULES.get(name, _OTHERS)
            if name not in _UNCHECKED and not holds(value):
                self._refuse(options, name, rule)

    def _refuse(self, options: Options, name: str, rule: str) -> None:
        raise ValueError(f"{type(self).__name__}: {name}={options[name]} {rule}")

    def _coefficients(self, o: Options) -> Sequence[float]:
        """The first numbers that `_update` takes: those that are the same in all steps."""
        raise NotImplementedError

    def _coefficients_of_step(self, _o: Options, _n: Options, _t: Number) -> Sequence[Number]:
        """The other numbers that `_update` takes: those of step t >= 1.

        Of the options `o`, only whether they are zero may be read; `n` has those in
        `options_of_step` as numbers to compute with, as t is one. How many coefficients there are
        may depend on `o` alone.
        """
        return ()

    def _constant_coefficients(self, o: Options) -> Sequence[float]:
        """The coefficient of weight decay, if there is any, and those of `_coefficients`."""
        if not (decay := o["weight_decay"]):
            return self._coefficients(o)
        return (1 - o["lr"] * decay if self.decoupled else decay, *self._coefficients(o))

    def _all_coefficients(self, o: Options, t: float) -> tuple[float, ...]:
        constant, others = self._constant_coefficients(o), self._coefficients_of_step(o, o, t)
        return tuple(map(float, (*constant, *others) if others else constant))

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State, *coefficients: Any
    ) -> None:
        """Update the parameters `p` in place, by their gradients `g`; `s` is scratch memory.

        `state` finds the vectors that are kept between steps by name; at first they are zero.
        `coefficients` are 0-d arrays; of the options `o`, only whether they are zero may be read,
        and not of `lr`.
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
            (group, flat, part, t := part.count.item() + 1.0, self._all_coefficients(group, t))
            for group, flats in zip(self.param_groups, self._flats)
            for flat in flats
            for part in flat.gather()
        ]
        interpreter = mode.get().interpreter
        for group, flat, part, t, coefficients in ready:
            if isinstance(interpreter, Tracing):
                self._trace_change(interpreter, group, flat, part)
                continue
            part.count[()] = t
            scalars = flat.scalars(coefficients)
            for block in part.blocks:
                self._change(group, block.data, block.grad, block.scratch, block.state, scalars)
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

    def _trace_change(self, trace: Tracing, group: Group, flat: Flat, part: Part) -> None:
        """Record the step of a part in the compiled program."""
        refresh = functools.partial(self._refresh_group, group)
        refresh()
        trace.require(group, "is_current", refresh)
        trace.guard(group, "nonzero")
        t = trace.number(part.count) + 1
        trace.write_number(part.count, t)
        numbers = self._coefficients_of_step(group, flat.step_arrays.numbers(trace), t)
        count = len(self._constant_coefficients(group))
        scalars = [*map(trace.state, flat.step_arrays.constants[:count])]
        scalars += [number.as_array(flat.grad.dtype) for number in numbers]
        for block in part.blocks:
            p, g, s = map(trace.state, (block.data, block.grad, block.scratch))
            self._change(
                group, p, g, s, lambda *name, block=block: trace.state(block.state(*name)), scalars
            )

    def _arrays(self) -> list[Array]:
        """The arrays that compiled steps read, with what follows from the present options."""
        found = []
        for group, flats in zip(self.param_groups, self._flats):
            self._refresh_group(group)
            count = len(self._constant_coefficients(group))
            found += [array for flat in flats for array in flat.step_arrays.first(count)]
        return found

    def _arrays_ahead(self, changes: Sequence[Options]) -> list[Array | None]:
        """What these arrays would hold in many steps; None for those that stay as they are.

        For each group, the options that change are arrays with a number for each step.
        """
        found: list[Array | None] = []
        for group, flats, changed in zip(self.param_groups, self._flats, changes, strict=True):
            options = {**group, **changed}
            constants = self._constant_coefficients(options)
            for flat in flats:
                found += flat.step_arrays.ahead(options, constants)
        return found

    def _refresh(self) -> None:
        """Write what follows from changed options into the arrays that compiled steps read."""
        for group in self.param_groups:
            if not group.is_current:
                self._refresh_group(group)

    def _refresh_group(self, group: Group) -> bool:
        """Refresh the arrays of a group; return true, as the test of a compiled step."""
        if not isinstance(group, Group):
            raise TraceError(
                f"{type(self).__name__}: a compiled step would not see changes of options in a "
                f"{type(group).__name__} in param_groups: update the groups that are there instead"
            )
        constants = self._constant_coefficients(group)
        if not group.settled:
            names = [name for name, x in group.items() if x and name not in ("params", "lr")]
            nonzero = sys.intern(" ".join(names))
            if nonzero != group.nonzero:
                epoch[0] += 1
                group.nonzero = nonzero
            group.settled = True
        for other, flats in zip(self.param_groups, self._flats):
            for flat in flats if other is group else ():
                flat.step_arrays.write(group, constants)
        group.is_current = True
        return True

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
            + f" for {_count(group):,} numbers"
            for group in self.param_groups
        ]
        return "\n  ".join(textwrap.wrap(f"{type(self).__name__}({'; '.join(groups)})", WIDTH - 2))

    def _repr_html_(self) -> str:
        """A table for notebooks, with a row for each group of parameters."""
        options = [name for name in self.param_groups[0] if name != "params"]
        rows = [
            [*(str(group[name]) for name in options), f"{_count(group):,}"]
            for group in self.param_groups
        ]
        table = Table([[*options, "numbers"], *rows], ">" * (len(options) + 1))
        return f"{type(self).__name__}{table._repr_html_()}"


def _count(group: Mapping[str, Any]) -> int:
    """The number of elements of the parameters of a group."""
    return sum(p.size for p in group["params"])
