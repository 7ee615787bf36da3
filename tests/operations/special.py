"""Special functions and activations."""

from importlib.util import find_spec
from typing import Any

import numpy as np

import tensorgrad as tg
from tensorgrad import nn

from .row import *

SCIPY = find_spec("scipy") is not None
POINTS: list[Any] = [(), (0,), (2, 3)]
POINT_PAIRS: list[Any] = [((), ()), ((2, 1), (3,)), ((0,), ())]
AXES: list[Any] = [(2, 3), (1, 2, 2), (0, 3)]
probabilities = Domain(grid(1 / 16, 15 / 16))
MASK = np.array([[True, False, True], [False, False, True]])
WEIGHTS = np.array([[1.0, 2.0, 0.0], [0.5, 0.0, 3.0]])

ROWS = [
    # activations
    Op("leaky_relu", nn.leaky_relu, nonzero, shapes=POINTS, analytic=False),
    Op("leaky_relu slope", lambda x: nn.leaky_relu(x, negative_slope=-0.5), nonzero, shapes=POINTS, analytic=False),
    Op("hardtanh", nn.hardtanh, halfway, shapes=POINTS, analytic=False),
    Op("hardtanh bounds", lambda x: nn.hardtanh(x, max_val=0.5), halfway, shapes=POINTS, analytic=False),
    Op("threshold", lambda x: nn.threshold(x, 0.5, 3.0), halfway, shapes=POINTS, analytic=False),
    Op("hardshrink", nn.hardshrink, halfway, shapes=POINTS, analytic=False),
    Op("softshrink", nn.softshrink, halfway, shapes=POINTS, analytic=False),
    Op("prelu", lambda x, w: nn.prelu(x, w), nonzero, reals, shapes=[((2, 3), (3,)), ((4,), ())], analytic=False),
    Op("glu", nn.glu, reals, shapes=[(3, 4)]),
    Op("rrelu", lambda x: nn.rrelu(x, 0.25, 0.75, training=True, rng=1), nonzero, shapes=[(3, 2), (0,)]),
    Op("gumbel_softmax", lambda x: nn.gumbel_softmax(x, 0.5, axis=0, rng=1), reals, shapes=[(3, 2), (0,)]),
    Op("softmin", nn.softmin, reals, shapes=[(3, 4)]),
    Op("relu6", lambda x: nn.relu6(x * 8), halfway, shapes=POINTS, analytic=False),
    Op("hardsigmoid", lambda x: nn.hardsigmoid(x * 4), halfway, shapes=POINTS, analytic=False),
    Op("hardswish", lambda x: nn.hardswish(x * 4), halfway, shapes=POINTS, analytic=False),
    Op("elu", nn.elu, nonzero, shapes=POINTS, analytic=False),
    Op("elu alpha", lambda x: nn.elu(x, alpha=0.5), nonzero, shapes=POINTS, analytic=False),
    Op("selu", nn.selu, nonzero, shapes=POINTS, analytic=False),
    Op("celu", lambda x: nn.celu(x, 0.5), nonzero, shapes=POINTS, analytic=False),
    Op("softplus", nn.softplus, nonzero, shapes=POINTS, analytic=False),
    Op("softplus beta", lambda x: nn.softplus(x, beta=2), nonzero, shapes=POINTS, analytic=False),
    Op("log_sigmoid", nn.log_sigmoid, nonzero, shapes=POINTS, analytic=False),
    Op("silu", nn.silu, reals, shapes=POINTS),
    Op("mish", nn.mish, nonzero, shapes=POINTS, analytic=False),
    Op("gelu tanh", lambda x: nn.gelu(x, approximate="tanh"), reals, shapes=POINTS),
    Op("softsign", nn.softsign, nonzero, shapes=POINTS, analytic=False),
    Op("tanhshrink", nn.tanhshrink, reals, shapes=POINTS),
    # along axes
    Op("softmax", nn.softmax, reals, shapes=AXES),
    Op("softmax axes", lambda x: tg.special.softmax(x, axis=(0, -1)), reals, shapes=AXES),
    Op("softmax of all", tg.special.softmax, reals, shapes=[(), (3,), (2, 3)]),
    Op("log_softmax", nn.log_softmax, reals, shapes=AXES),
    Op("log_softmax of all", tg.special.log_softmax, reals, shapes=[(), (2, 3)]),
    Op("log_softmax axis", lambda x: nn.log_softmax(x, axis=0), reals, shapes=[(2, 3), (2, 0)]),
    Op("logsumexp", nn.logsumexp, reals, shapes=[(), (3,), (2, 3)]),
    Op("logsumexp axis", lambda x: nn.logsumexp(x, axis=-1), reals, shapes=AXES),
    Op("logsumexp axes", lambda x: nn.logsumexp(x, (0, -1), keepdims=True), reals, shapes=AXES),
    Op("logsumexp weights", lambda x, b: nn.logsumexp(x, 1, b), reals, positive, shapes=[((2, 3), (2, 3)), ((2, 1), (3,)), ((3,), (2, 1))]),
    Op("logsumexp weights of all", lambda x: nn.logsumexp(x, b=WEIGHTS, keepdims=True), reals, shapes=[(), (3,), (2, 3)]),
    # special functions that need NumPy alone
    Op("logit", tg.special.logit, probabilities, shapes=POINTS),
    Op("xlogy", tg.special.xlogy, reals, positive, shapes=POINT_PAIRS),
    Op("xlogy(x, 2)", lambda x: tg.special.xlogy(x, 2), reals, shapes=POINTS),
    Op("xlogy(2.5, x)", lambda x: tg.special.xlogy(2.5, x), positive, shapes=POINTS),
    Op("xlog1py", tg.special.xlog1py, reals, positive, shapes=POINT_PAIRS),
    Op("entr", tg.special.entr, positive, shapes=POINTS),
    Op("rel_entr", tg.special.rel_entr, positive, positive, shapes=POINT_PAIRS, analytic=False),
    Op("special.kl_div", tg.special.kl_div, positive, positive, shapes=POINT_PAIRS, analytic=False),
    # SciPy's where it is installed, else approximations
    Op("gelu", nn.gelu, reals, shapes=POINTS, analytic=SCIPY),
    *(Op(name, getattr(tg.special, name), reals, shapes=POINTS, analytic=SCIPY) for name in (
        "erf", "erfc", "erfcx", "ndtr", "log_ndtr",
    )),
    *(Op(f"special.{name}", getattr(tg.special, name), reals, shapes=POINTS, analytic=False) for name in ("i0", "i1")),
    *(Op(name, getattr(tg.special, name), nonzero, shapes=POINTS, analytic=False) for name in ("i0e", "i1e")),
    *(Op(name, getattr(tg.special, name), probabilities, shapes=POINTS, analytic=False) for name in (
        "erfinv", "erfcinv", "ndtri",
    )),
    *(Op(name, getattr(tg.special, name), positive, shapes=POINTS, analytic=False) for name in (
        "gamma", "gammaln", "rgamma", "psi",
    )),
    *(Op(f"{name} < 0", lambda x, name=name: getattr(tg.special, name)(x / 2 - 2.75), probabilities, shapes=POINTS, analytic=False) for name in (
        "gamma", "gammaln", "rgamma", "psi",
    )),
    Op("rgamma at the poles of gamma", tg.special.rgamma, Domain((0.0, -1.0, -2.0, 0.5)), shapes=[(3,)], analytic=False),
    *(Op(name, getattr(tg.special, name), positive, positive, shapes=POINT_PAIRS, analytic=False) for name in ("beta", "betaln")),
    Op("polygamma", lambda x: tg.special.polygamma(2, x), positive, shapes=POINTS, analytic=False),
    Op("multigammaln", lambda x: tg.special.multigammaln(x + 1, 3), positive, shapes=POINTS, analytic=False),
    # choosing by a mask
    Op("safe_where", lambda x, y: tg.safe_where(MASK, np.exp, x, y), reals, reals, shapes=[((), ()), ((2, 3), (3,)), ((1, 3), (2, 1))]),
    Op("safe_where x > 0", lambda x: tg.safe_where(x > 0, np.log, x), nonzero, shapes=POINTS, analytic=False),
]  # fmt: skip

if SCIPY:
    from scipy import special as sp

    ROWS += [
        *(Op(f"scipy {f.__name__}", f, reals, shapes=POINTS, analytic=False) for f in (
            sp.expit, sp.log_expit, sp.j0, sp.j1, sp.erfi, sp.dawsn, sp.expm1, sp.exp2, sp.exp10,
        )),
        *(Op(f"scipy {f.__name__}", f, nonzero, shapes=POINTS, analytic=False) for f in (sp.expi, sp.cbrt)),
        Op("scipy logit", sp.logit, probabilities, shapes=POINTS, analytic=False),
        Op("scipy ndtri_exp", lambda x: sp.ndtri_exp(-x), positive, shapes=POINTS, analytic=False),
        *(Op(f"scipy {f.__name__}", f, positive, shapes=POINTS, analytic=False) for f in (
            sp.loggamma, sp.entr, sp.exp1, sp.k0, sp.k1, sp.k0e, sp.k1e, sp.y0, sp.y1, sp.log1p,
        )),
        *(Op(f"scipy {f.__name__}", lambda x, f=f: np.concatenate(f(x.reshape(-1))), positive, shapes=[(2, 3)], analytic=False) for f in (
            sp.sici, sp.shichi,
        )),
        *(Op(f"scipy {f.__name__}", f, positive, positive, shapes=POINT_PAIRS, analytic=False) for f in (
            sp.xlogy, sp.xlog1py, sp.rel_entr, sp.kl_div, sp.poch,
        )),
        Op("scipy binom", lambda x, y: sp.binom(x + 4, y), positive, positive, shapes=POINT_PAIRS, analytic=False),
        *(Op(f"scipy {f.__name__}", lambda x, f=f: f([2, 0.5, 3], x), positive, shapes=[(), (2, 3)], analytic=False) for f in (
            sp.jv, sp.yv, sp.iv, sp.kv, sp.ive, sp.kve, sp.gammainc, sp.gammaincc,
        )),
        *(Op(f"scipy {f.__name__}", lambda x, f=f: f([2, 0, 3], x), positive, shapes=[(), (2, 3)], analytic=False) for f in (sp.yn, sp.kn)),
        Op("scipy expn", lambda x: sp.expn([4, 5, 6], x), positive, shapes=[(), (2, 3)], analytic=False),
        *(Op(f"scipy {f.__name__}", lambda x, f=f: f(2, [0.5, 1, 3], x), probabilities, shapes=[(), (2, 3)], analytic=False) for f in (
            sp.betainc, sp.betaincc, sp.betaincinv, sp.betainccinv,
        )),
        *(Op(f"scipy {f.__name__}", lambda x, f=f: f([2, 0.5, 3], x), probabilities, shapes=[(), (2, 3)], analytic=False) for f in (
            sp.gammaincinv, sp.gammainccinv, sp.stdtrit,
        )),
        Op("scipy stdtr", lambda x: sp.stdtr([2, 0.5, 3], x), reals, shapes=[(), (2, 3)], analytic=False),
    ]  # fmt: skip
