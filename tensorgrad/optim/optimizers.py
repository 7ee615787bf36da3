"""Optimizers: each is the numbers of a step, and the step, on vectors of all parameters.

`_numbers` computes from the options, and from the count of steps, what goes into a step; `_update`
changes vectors in place, and sees no number but through arrays.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..errors import TraceError
from ..graph import Array, enable_grad, mode
from ..guide import guide, guided
from ..tensor import Tensor
from .flat import Flat, Part, by_dtype, distinct, listed, working_dtype

Parameters: TypeAlias = "Iterable[Tensor] | Iterable[dict[str, Any]]"
Options: TypeAlias = Mapping[str, Any]
State: TypeAlias = Callable[..., Array]
Numbers: TypeAlias = tuple[Sequence[float], Callable[[int], Sequence[float]] | None]


class Group(dict[str, Any]):
    """Options of some parameters; whatever changes one gives them another `version`.

    A compiled step compares versions, in 20 ns, where two dicts take 140.
    """

    __slots__ = ("version",)

    def __init__(self, options: Options) -> None:
        # An element of a list could change and leave the version as it is.
        super().__init__({k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})
        self.version = 0

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
        self.version += 1
        return method(self, *args, **kwargs)

    return changing


for _method in (
    dict.__delitem__, dict.__ior__, dict.__setitem__,
    dict.clear, dict.pop, dict.popitem, dict.setdefault, dict.update,
):  # fmt: skip
    setattr(Group, _method.__name__, _changing(_method))


@guide
class Optimizer:
    """What optimizers have in common: groups of parameters, and steps on flat vectors.

    `params` are tensors that require grad, or dicts of them as `"params"` with options of their
    own. On construction the parameters of a group and a dtype become views of one vector; assigning
    their `data` writes into it. `param_groups` is a list of dicts of options, which can be changed
    between steps. A parameter without a gradient is left alone, and its count of steps too; one
    that is listed twice is stepped once. Of several optimizers that hold a parameter each can step
    it, but passing it on costs a copy. Raises ValueError for options out of their range.

    Optimizers can be pickled and copied, together with the module that holds the parameters.
    """

    vectors: ClassVar[tuple[str, ...]] = ()
    """The names of the vectors that it keeps beside the parameters."""

    def __init__(self, params: Parameters, **defaults: Any) -> None:
        if mode.get().trace is not None:
            raise TraceError(
                f"{type(self).__name__}: an optimizer made inside of a compiled function would not "
                "start anew in each call: make it outside"
            )
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self._flats: list[list[Flat]] = []
        groups = listed(params, type(self).__name__)
        if not groups:
            raise ValueError(f"{type(self).__name__}: an empty list of parameters")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Add parameters, `group["params"]`, with options of their own; others are the defaults."""
        name = type(self).__name__
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
            if name == "betas":
                if not (len(value) == 2 and all(0 <= beta < 1 for beta in value)):
                    self._refuse(options, name, "must be two numbers from 0 to below 1")
            elif name == "alpha":
                if not 0 <= value <= 1:
                    self._refuse(options, name, "must be from 0 to 1")
            elif name not in ("params", "dampening") and not 0 <= value < math.inf:
                self._refuse(options, name, "must be finite and not negative")

    def _refuse(self, options: Options, name: str, rule: str) -> None:
        raise ValueError(f"{type(self).__name__}: {name}={options[name]} {rule}")

    def _numbers(self, o: Options) -> Numbers:
        """What goes into each step; and what goes into step `t`, from 1 on, as a function of that.

        Whether there is such a function is decided by which options are used at all.
        """
        raise NotImplementedError

    def _numbers_of_step(self, o: Options, t: int) -> tuple[float, ...]:
        constant, timed = self._numbers(o)
        return tuple(map(float, (*constant, *timed(t)) if timed else constant))

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State, *numbers: Any
    ) -> None:
        """Change vectors in place: parameters `p`, by gradients `g`; `s` is scratch, as is `g`.

        `state` finds vectors by name, at first of zeros; `numbers` are 0-d arrays. Whether an
        option is used at all is decided by `o`. Gradients that are left as they are cost a compiled
        step no copy.
        """
        raise NotImplementedError

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change the parameters by their gradients.

        `closure`, if given, computes them first; what it returns, the loss, is returned.
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
        ready = [  # with all that can fail done before the first change
            (group, flat, part, self._numbers_of_step(group, part.steps + 1))
            for group, flats in zip(self.param_groups, self._flats)
            for flat in flats
            for part in flat.gather()
        ]
        trace = mode.get().trace
        for group, flat, part, numbers in ready:
            if trace is None:
                part.steps += 1
                scalars = flat.scalars(numbers)
                for block in part.blocks:
                    self._change(group, block.data, block.grad, block.scratch, block.state, scalars)
            else:
                self._trace_change(trace, group, flat, part)
        return loss

    def _change(
        self, o: Options, p: Array, g: Array, s: Array, state: State, scalars: Sequence[Array]
    ) -> None:
        if o["maximize"]:
            np.negative(g, g)
        self._update(o, p, g, s, state, *scalars)

    def _trace_change(self, trace: Any, group: Group, flat: Flat, part: Part) -> None:
        """Let the compiler write down the step of a part."""
        if not isinstance(group, Group):
            raise TraceError(
                f"{type(self).__name__}: a compiled step would not see changes of options in a "
                f"{type(group).__name__} in param_groups: update the groups that are there instead"
            )
        written = _Written(self._numbers, group, part.steps + 1, flat.grad.dtype)
        trace.require("{}.version == {}.version or {}()", group, written, written.fits)
        trace.inline("{}.steps += 1", part)
        # A schedule may have made a step in this call.
        trace.inline("if {}.group.version != {}.version: {}()", written, written, written.renew)
        if written.timed:
            targets = "{}[()], " * len(written.moving)
            trace.inline(f"{targets}= {{}}.timed({{}}.steps)", *written.moving, written, part)
        scalars = [*map(trace.state, (*written.constant, *written.moving))]
        for block in part.blocks:
            p, g, s = map(trace.state, (block.data, block.grad, block.scratch))
            self._change(
                group, p, g, s, lambda *name, block=block: trace.state(block.state(*name)), scalars
            )

    @guided
    def zero_grad(self) -> None:
        """Forget the gradient of every parameter: `grad` is None again."""
        for group in self.param_groups:
            for p in group["params"]:
                p.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that a later step depends on, besides the parameters, in PyTorch's layout.

        `"state"` maps the number of each parameter to its step count and arrays by name;
        `"param_groups"` has the options, with numbers in place of parameters.
        """
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
        are others, or an option is out of its range.
        """
        groups, states = state["param_groups"], state["state"]
        sizes = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"load_state_dict: groups of {sizes[1]} parameters for an optimizer of {sizes[0]}"
            )
        merged = []
        for mine, saved in zip(self.param_groups, groups):
            if missing := mine.keys() - saved.keys():
                self._refuse_state(f"no option {sorted(missing)}")
            merged.append({name: saved[name] for name in mine} | {"params": mine["params"]})
            self._check(merged[-1])
        keys = itertools.chain(*(g["params"] for g in groups))
        loaded = {
            id(p): self._read(i, p, states.get(key, {}))
            for i, (p, key) in enumerate(zip(self._parameters(), keys))
        }
        for mine, options in zip(self.param_groups, merged):
            mine.update(options)
        for flat in itertools.chain(*self._flats):
            flat.load([loaded[id(p)] for p in flat.parameters])

    def _refuse_state(self, fault: str) -> None:
        raise ValueError(
            f"load_state_dict: {fault}: this is not the state of {type(self).__name__}; "
            "load it into the kind of optimizer that saved it"
        )

    def _read(self, i: int, p: Tensor, state: Mapping[str, Any]) -> dict[str, Any]:
        """What a saved state says of parameter `i`, as a count of steps and arrays."""
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


class _Written:
    """The numbers of a compiled step, in arrays of its own: `constant` ones, and `moving` ones.

    Those are of the options of `version`; these are computed by `timed` in each step.
    """

    def __init__(
        self, numbers: Callable[[Options], Numbers], group: Group, t: int, dtype: Any
    ) -> None:
        constant, self.timed = numbers(group)
        moving = self.timed(t) if self.timed else ()
        self.constant, self.moving = ([np.zeros((), dtype) for _ in x] for x in (constant, moving))
        self.group = group
        self.version = -1  # not yet written
        self._numbers = numbers
        self._used = self._which_are_used()

    def _which_are_used(self) -> list[bool]:
        """Which options are used at all, for which the program differs."""
        return [bool(value) for name, value in self.group.items() if name != "params"]

    def fits(self) -> bool:
        """Bring in other options, if that does not need another program."""
        same = self._which_are_used() == self._used
        if same:
            self.renew()
        return same

    def renew(self) -> None:
        """Write the numbers that depend on the options alone."""
        constant, self.timed = self._numbers(self.group)
        for array, number in zip(self.constant, constant):
            array[()] = number
        self.version = self.group.version


def _blend(mean: Array, keep: Array, x: Array, share: Array, s: Array) -> None:
    mean *= keep
    mean += np.multiply(x, share, s)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum: p -= lr * b, where b = momentum * b + g.

    `weight_decay * p` is added to the gradient g; `dampening` takes that fraction from g, but in
    the first step. With `nesterov`, g + momentum * b stands for b: Sutskever and others, On the
    importance of initialization and momentum in deep learning, 2013. `maximize` climbs.

    >>> p = tg.Tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.SGD([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([0.8, 1.6], requires_grad=True)
    """

    vectors = ("momentum_buffer",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )

    def _check(self, options: Options) -> None:
        super()._check(options)
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            self._refuse(options, "nesterov", "needs momentum, and no dampening")

    def _numbers(self, o: Options) -> Numbers:
        constant, dampening = (o["lr"], o["weight_decay"], o["momentum"]), o["dampening"]
        if not dampening:
            return (*constant, 1.0), None
        return constant, lambda t: (1.0 if t == 1 else 1.0 - dampening,)

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, decay: Array, momentum: Array, fresh: Array,
    ) -> None:  # fmt: skip
        if o["weight_decay"]:
            g += np.multiply(p, decay, s)
        if o["momentum"]:
            b = state("momentum_buffer")
            _blend(b, momentum, g, fresh, s)
            g = np.add(g, np.multiply(b, momentum, s), s) if o["nesterov"] else b
        p -= np.multiply(g, lr, s)


class Adam(Optimizer):
    """Steps of about `lr` each: averages of the gradient, over the root of those of its square.

    With the averages m and v of g and g², which forget by `betas`, freed of the bias of their start
    at 0: p -= lr * m / (sqrt(v) + eps). Kingma and Ba, Adam: A method for stochastic optimization,
    2015. `weight_decay * p` is added to g. With `amsgrad`, v is the largest so far: Reddi and
    others, On the convergence of Adam and beyond, 2018. `maximize` climbs.

    >>> p = tg.Tensor([1.0, 200.0], requires_grad=True)
    >>> optimizer = tg.optim.Adam([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([  0.9, 199.9], requires_grad=True)
    """

    vectors = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    decoupled = False  # whether weights decay by themselves, not through the gradient

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    def _numbers(self, o: Options) -> Numbers:
        lr, decay, eps, (beta1, beta2) = o["lr"], o["weight_decay"], o["eps"], o["betas"]

        def timed(t: int) -> Sequence[float]:
            root = math.sqrt(1 - beta2**t)
            return eps * root, lr * root / (1 - beta1**t)

        decay = 1 - lr * decay if self.decoupled else decay
        return (decay, beta1, 1 - beta1, beta2, 1 - beta2), timed

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        decay: Array, keep1: Array, share1: Array, keep2: Array, share2: Array,
        eps: Array, lr: Array,
    ) -> None:  # fmt: skip
        if o["weight_decay"] and self.decoupled:
            p *= decay
        elif o["weight_decay"]:
            g += np.multiply(p, decay, s)
        m, v = state("exp_avg"), state("exp_avg_sq")
        _blend(m, keep1, g, share1, s)
        _blend(v, keep2, np.multiply(g, g, s), share2, s)
        if o["amsgrad"]:
            largest = state("max_exp_avg_sq")
            v = np.maximum(largest, v, out=largest)
        np.sqrt(v, s)
        s += eps
        np.divide(m, s, s)
        s *= lr
        p -= s


class AdamW(Adam):
    """Adam, in which weights decay apart from the gradient: p -= lr * weight_decay * p.

    Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    >>> p = tg.Tensor([1.0], requires_grad=True)
    >>> p.grad = [0.0]
    >>> tg.optim.AdamW([p], lr=0.1, weight_decay=0.5).step()
    >>> p
    Tensor([0.95], requires_grad=True)
    """

    decoupled = True

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


class RMSprop(Optimizer):
    """Gradients over the root of the average of their square: p -= lr * g / (sqrt(v) + eps).

    v forgets by `alpha`; with `centered`, the square of the average of g is taken from it: Graves,
    Generating sequences with recurrent neural networks, 2013. With `momentum`, the quotients are
    summed up as SGD's gradients are. Tieleman and Hinton, Lecture 6.5, 2012.

    >>> p = tg.Tensor([1.0, 200.0], requires_grad=True)
    >>> optimizer = tg.optim.RMSprop([p], lr=0.01, alpha=0.75)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([  0.98, 199.98], requires_grad=True)
    """

    vectors = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    def _numbers(self, o: Options) -> Numbers:
        alpha = o["alpha"]
        return (o["lr"], o["weight_decay"], alpha, 1 - alpha, o["eps"], o["momentum"]), None

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, decay: Array, keep: Array, share: Array, eps: Array, momentum: Array,
    ) -> None:  # fmt: skip
        if o["weight_decay"]:
            g += np.multiply(p, decay, s)
        v = state("square_avg")
        _blend(v, keep, np.multiply(g, g, s), share, s)
        if o["centered"]:
            m = state("grad_avg")
            _blend(m, keep, g, share, s)
            v = np.subtract(v, np.multiply(m, m, s), s)
        np.sqrt(v, s)
        s += eps
        quotient = np.divide(g, s, s)
        if o["momentum"]:
            b = state("momentum_buffer")
            b *= momentum
            b += quotient
            quotient = b
        p -= np.multiply(quotient, lr, s)


class Adagrad(Optimizer):
    """Gradients over the root of the sum of their squares so far: p -= lr * g / (sqrt(v) + eps).

    v starts at `initial_accumulator_value`; the rate of step t is lr / (1 + (t - 1) * lr_decay).
    Duchi, Hazan and Singer, Adaptive subgradient methods, 2011.

    >>> p = tg.Tensor([1.0, 200.0], requires_grad=True)
    >>> optimizer = tg.optim.Adagrad([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([  0.9, 199.9], requires_grad=True)
    """

    vectors = ("sum",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )

    def _numbers(self, o: Options) -> Numbers:
        lr, decay = o["lr"], o["lr_decay"]
        return (o["weight_decay"], o["eps"]), lambda t: (lr / (1 + (t - 1) * decay),)

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        decay: Array, eps: Array, lr: Array,
    ) -> None:  # fmt: skip
        if o["weight_decay"]:
            g += np.multiply(p, decay, s)
        v = state("sum", o["initial_accumulator_value"])
        v += np.multiply(g, g, s)
        np.sqrt(v, s)
        s += eps
        np.divide(g, s, s)
        s *= lr
        p -= s


class Lion(Optimizer):
    """Steps of exactly `lr`: the sign of a blend of the gradient and of its average.

    m being the average: p -= lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p), and then
    m = beta2 * m + (1 - beta2) * g. Chen and others, Symbolic discovery of optimization algorithms,
    2023, who advise a rate of a third to a tenth of AdamW's.

    >>> p = tg.Tensor([1.0, -200.0], requires_grad=True)
    >>> optimizer = tg.optim.Lion([p], lr=0.1)
    >>> np.sum(p * p).backward()
    >>> optimizer.step()
    >>> p
    Tensor([   0.9, -199.9], requires_grad=True)
    """

    vectors = ("exp_avg",)

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize)

    def _numbers(self, o: Options) -> Numbers:
        lr, (beta1, beta2) = o["lr"], o["betas"]
        return (lr, 1 - lr * o["weight_decay"], beta1 / (1 - beta1), beta2, 1 - beta2), None

    def _update(
        self, o: Options, p: Array, g: Array, s: Array, state: State,
        lr: Array, decay: Array, weight: Array, keep: Array, share: Array,
    ) -> None:  # fmt: skip
        if o["weight_decay"]:
            p *= decay
        m = state("exp_avg")
        np.multiply(m, weight, s)
        s += g
        np.sign(s, s)
        s *= lr
        p -= s
        _blend(m, keep, g, share, s)
