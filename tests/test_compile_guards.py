"""What changes in Python between two calls of a compiled function is never silently old.

Each row of the catalogue is a program: the state that it starts with, what the function `f(x)`
returns, and a change of the state between two calls. The compiled function returns what the
function itself does, or raises a TraceError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorgrad as tg

from .oracles import assert_same


class Program(NamedTuple):
    """Lines that make the state, what `f` returns (or None, if the state has `f`), the change."""

    state: str
    result: str | None
    change: str


def programs(*rows: tuple[str, str | None, str]) -> list[Program]:
    return [Program(*rows_) for rows_ in rows]


HOLDER = """
class Holder:
    rate = 2.0
    def scaled(self, x):
        return self.rate * x
h = Holder()
"""
SLOTS = """
class Slots:
    __slots__ = ("part", "rate")
h = Slots()
h.rate = 2.0
h.part = [2.0, "a"]
"""
LAYERS = """
class Net(tg.nn.Module):
    scale = 2.0
    def __init__(self):
        self.layers = [tg.nn.Linear(3, 3, rng=i) for i in range(2)]
        self.named = {"a": tg.nn.Linear(3, 3, rng=3), "b": np.tanh}
        self.shift = 1.0
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        for layer in self.named.values():
            x = layer(x)
        return self.scale * x + self.shift
net = Net()
"""
CELL = """
def make(value):
    def change(new):
        nonlocal value
        value = new
    return (lambda x: {}), change
f, change = make({})
"""
DEFAULTS = """
def g(x, options={"rate": 2.0, "name": "a"}, *, shift=[1.0, "b"]):
    return x * options["rate"] + shift[0]
def f(x):
    return g(x)
"""
TRAINING = """
net = tg.nn.Linear(3, 2, rng=0)
optimizer = tg.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
schedule = tg.optim.StepLR(optimizer, 2, 0.5)
average = tg.optim.ExponentialMovingAverage(net.parameters(), 0.5)
def step(x):
    loss = np.mean(net(x) ** 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss
"""

NAMES = programs(
    ("s = 2.0", "x * s", "s = 3.0"),
    ("s = 2", "x * s", "s = 2.5"),
    ("s = True", "x * (2 if s else 3)", "s = False"),
    ("s = 1", "np.ones(2, int) * s * x[0]", "s = True"),
    ("s = 2", "np.ones(3, np.int64) * s", "s = 2.0"),
    ("s = 0.0", "x / 1 * np.copysign(1.0, s)", "s = -0.0"),
    ("s = float('nan')", "x * (2 if s != s else 3)", "s = 1.0"),
    ("s = 'a'", "x * len(s)", "s = 'abc'"),
    ("s = None", "x if s is None else x * 2", "s = 1"),
    ("s = (2, 3)", "x * s[1]", "s = (2, 4)"),
    ("s = np.float64(2)", "np.ones(3, np.float32) * s", "s = 2.0"),
    ("q = lambda x: x * 2", "q(x)", "q = np.tanh"),
    ("q = tg.nn.relu", "q(x - 2)", "q = tg.nn.sigmoid"),
    ("q = np.sin", "q(x)", "q = np.cos"),
    ("def q(x):\n    return x * 2", "q(x)", "def q(x):\n    return x * 3"),
    ("def q(x):\n    return x * s\ns = 2.0", "q(x)", "s = 3.0"),
    ("def q(x):\n    return p(x)\ndef p(x):\n    return x * s\ns = 2.0", "q(x)", "s = 3.0"),
    ("def q():\n    return s\ns = 2.0", "x * q()", "s = 3.0"),
    ("k = np", "k.tanh(x)", "k = __import__('types').SimpleNamespace(tanh=np.sin)"),
    ("", "x * len((1, 2))", "len = lambda _: 5"),
    ("", "x * max(2, 3)", "max = min"),
    ("s = 2.0", "x * s", "del s; __builtins__ = dict(vars(__import__('builtins')), s=1)"),
    ("s = 2.0", "x * globals()['s']", "s = 3.0"),
    ("s = 2.0", "x * eval('s')", "s = 3.0"),
    ("s = 2.0\nname = 's'", "x * globals()[name]", "s = 3.0"),
    ("s = 2.0", "sum([x * s for _ in range(2)])", "s = 3.0"),
    ("s = 2.0", "(lambda: x * s)()", "s = 3.0"),
    ("s = 2.0\nf = tg.grad(lambda x: np.sum(x**2) * s)", None, "s = 3.0"),
    ("s = 2.0\nf = tg.jacobian(lambda x: x**2 * s)", None, "s = 3.0"),
    ("s = 2.0\nq = tg.compile(lambda x: x * s)", "q(x)", "s = 3.0"),
    (CELL.format("x * value", "2.0"), None, "change(3.0)"),
    (CELL.format("x * value[0]", "[2.0, 'a']"), None, "change([3.0, 'a'])"),
    (CELL.format("value(x)", "np.sin"), None, "change(np.cos)"),
    (CELL.format("x * value['a']", "{'a': 2.0, 'b': 'c'}"), None, "change({'a': 3.0})"),
    (CELL.format("(lambda: x * value)()", "2.0"), None, "change(3.0)"),
    (DEFAULTS, None, "g.__defaults__[0]['rate'] = 3.0"),
    (DEFAULTS, None, "g.__defaults__ = ({'rate': 3.0},)"),
    (DEFAULTS, None, "g.__kwdefaults__['shift'] = [2.0]"),
    (DEFAULTS, None, "g.__kwdefaults__['shift'][0] = 2.0"),
    (DEFAULTS, None, "g.__kwdefaults__ = {'shift': [2.0]}"),
    (DEFAULTS, None, "g.__code__ = (lambda x, options, *, shift: x + shift[0]).__code__"),
    ("def f(x, s=[2.0, 'a']):\n    return x * s[0]", None, "f.__defaults__[0][0] = 3.0"),
    ("def f(x, s=2.0):\n    return x * s", None, "f.__defaults__ = (3.0,)"),
    ("def f(x):\n    return x * f.rate\nf.rate = 2.0", None, "f.rate = 3.0"),
    ("def f(x):\n    return x * f.rates[0]\nf.rates = [2.0, 'a']", None, "f.rates[0] = 3.0"),
    (
        "import functools\nf = functools.partial(lambda s, x: x * s[0], [2.0, 'a'])",
        None, "f.args[0][0] = 3.0",
    ),
    (
        "import functools\nf = functools.partial(lambda x, s: x * s, s=2.0)",
        None, "f.keywords['s'] = 3.0",
    ),
    (
        "import functools\nq = functools.partial(lambda x, s: x * s['a'], s={'a': 2.0, 'b': 'c'})",
        "q(x)", "q.keywords['s']['a'] = 3.0",
    ),
    (
        "import functools\n@functools.lru_cache\ndef q():\n    return s\ns = 2.0",
        "x * q()", "s = 3.0; q.cache_clear()",
    ),
    (
        "import functools\ndef twice(q):\n    @functools.wraps(q)\n    def both(x):\n"
        "        return q(q(x))\n    return both\n@twice\ndef q(x):\n    return x * s\ns = 2.0",
        "q(x)", "s = 3.0",
    ),
    ("import functools\nq = functools.reduce", "q(lambda a, b: a * s + b, x)\ns = 2.0", "s = 3.0"),
    ("try_ = 0", "x * flag() if 'flag' in globals() else x", "flag = lambda: 3.0"),
    ("def q():\n    try:\n        return s\n    except NameError:\n        return 2.0",
     "x * q()", "s = 3.0"),
)  # fmt: skip

CONTAINERS = programs(
    ("s = [2.0]", "x * s[0]", "s[0] = 3.0"),
    ("s = [2.0, 'a']", "x * s[0]", "s[0] = 3.0"),
    ("s = [[2.0], [3.0]]", "x * s[0][0]", "s[0][0] = 3.0"),
    ("s = [2.0, 3.0]", "x * len(s)", "s.append(4.0)"),
    ("s = [2.0, 3.0]", "x * s[-1]", "s.reverse()"),
    ("s = list(range(50))", "x * s[40]", "s[40] = 7"),
    ("s = list(range(5000))", "x * sum(s)", "s[4000] = 7"),
    ("s = [np.sin, np.cos]", "s[0](x)", "s[0] = np.tanh"),
    ("s = {'a': 2.0}", "x * s['a']", "s['a'] = 3.0"),
    ("s = {'a': 2.0, 'b': (1, 2)}", "x * s['a']", "s['a'] = 3.0"),
    ("s = {'a': 2.0, 'b': [1]}", "x * s.get('a')", "s['a'] = 3.0"),
    ("s = {'a': {'b': 2.0}}", "x * s['a']['b']", "s['a']['b'] = 3.0"),
    ("s = {'a': 2.0}", "x * s.get('b', 1.0)", "s['b'] = 3.0"),
    ("s = {'a': 2.0}", "x * ('b' in s)", "s['b'] = 3.0"),
    ("s = {'a': 2.0, 'b': 3.0}", "x ** [*s.values()][0]", "s['a'] = s.pop('a')"),
    ("s = {'a': 2.0, 'b': 2.0}", "x * ord([*s][0])", "s['a'] = s.pop('a')"),
    ("s = dict.fromkeys(range(50), 2.0)", "x * s[40]", "s[40] = 7.0"),
    ("s = {1: 2.0}", "x * s[1]", "s.clear(); s[1] = 3.0"),
    ("s = {1, 2}", "x * sum(s)", "s.add(5)"),
    ("s = {1, 2}", "x * (3 in s)", "s.remove(2); s.add(3)"),
    ("s = {(1, 'a'), 2}", "x * len(s)", "s.clear()"),
    ("s = bytearray(b'ab')", "x * s[0]", "s[0] = 3"),
    ("import array\ns = array.array('d', [2.0])", "x * s[0]", "s[0] = 3.0"),
    ("s = memoryview(bytearray(b'ab'))", "x * s[0]", "s[0] = 3"),
    ("import collections\ns = collections.deque([2.0, 3.0])", "x * s[0]", "s.rotate(1)"),
    ("import collections\ns = collections.deque([2.0], 5)", "x * len(s)", "s.append(1.0)"),
    ("import collections\ns = collections.OrderedDict(a=2.0, b=3.0)", "x * [*s.values()][0]",
     "s.move_to_end('a')"),
    ("import collections\ns = collections.defaultdict(float, a=2.0)", "x * s['a']",
     "s['a'] = 3.0"),
    ("import collections\ns = collections.Counter('aab')", "x * s['a']", "s.update('a')"),
    ("import collections\ns = collections.ChainMap({'a': 2.0}, {})", "x * s['a']",
     "s.maps[0]['a'] = 3.0"),
    ("import collections\ns = collections.UserDict(a=2.0)", "x * s['a']", "s['a'] = 3.0"),
    ("import collections\ns = collections.UserList([2.0])", "x * s[0]", "s[0] = 3.0"),
    ("import types\nd = {'a': 2.0}\ns = types.MappingProxyType(d)", "x * s['a']", "d['a'] = 3.0"),
    ("import types\ns = types.SimpleNamespace(a=2.0)", "x * s.a", "s.a = 3.0"),
    ("import types\ns = types.SimpleNamespace(a=[2.0, 'b'])", "x * s.a[0]", "s.a[0] = 3.0"),
    ("d = {'a': 2.0}\ns = d.values()", "x * sum(s)", "d['a'] = 3.0"),
    ("d = {'a': 2.0}\ns = d.items()", "x * [*s][0][1]", "d['a'] = 3.0"),
    ("s = ([2.0], 'a')", "x * s[0][0]", "s[0][0] = 3.0"),
    ("class L(list):\n    rate = 2.0\ns = L([2.0])", "x * s[0]", "s[0] = 3.0"),
    ("class L(list):\n    pass\ns = L([2.0])\ns.rate = 2.0", "x * s.rate", "s.rate = 3.0"),
    ("class D(dict):\n    pass\ns = D(a=2.0)", "x * s['a']", "s['a'] = 3.0"),
    ("class D(dict):\n    __getattr__ = dict.__getitem__\ns = D(a=2.0)", "x * s.a", "s['a'] = 3.0"),
    ("from typing import NamedTuple\nclass T(NamedTuple):\n    a: list\ns = T([2.0])", "x * s.a[0]",
     "s.a[0] = 3.0"),
    ("params = {'w': tg.Tensor(np.ones(3), requires_grad=True)}", "np.sum(params['w'] * x)",
     "params['w'] = tg.Tensor(np.full(3, 5.0), requires_grad=True)"),
    ("params = {'w': tg.Tensor([2.0])}", "params['w'] * x", "params['w'] = tg.Tensor([2.0]) * 2"),
    ("params = [tg.Tensor(2.0)]", "params[0] * x", "params[0] = tg.Tensor(3.0)"),
    ("params = [tg.Tensor(2.0)]", "x * len(params[0].shape)", "params[0] = tg.Tensor([2.0])"),
    ("params = [(2.0, tg.Tensor(2.0))]", "params[0][1] * x", "params[0] = (2.0, tg.Tensor(3.0))"),
    ("s = [np.ones(3)]", "s[0] * x", "s[0] = np.full(3, 2.0)"),
    ("s = {'a': np.ones(3)}", "s['a'].sum() * x", "s['a'] = np.full(3, 2.0)"),
    ("import weakref\nclass A:\n    pass\na = A()\na.rate = 2.0\nr = weakref.ref(a)",
     "x * r().rate",
     "a.rate = 3.0"),
    ("import contextvars\nv = contextvars.ContextVar('v', default=2.0)", "x * v.get()",
     "v.set(3.0)"),
    ("import threading\nlocal = threading.local()\nlocal.rate = 2.0", "x * local.rate",
     "local.rate = 3.0"),
    ("import operator\ns = {'a': 2.0, 'b': 'c'}\nq = operator.itemgetter('a')", "x * q(s)",
     "s['a'] = 3.0"),
    ("import queue\ns = queue.Queue()\ns.put(1)", "x * s.qsize()", "s.put(2)"),
    ("s = np.array([1, 2, 3])", "x * s", "s[0] = 5"),
    ("s = np.array([1, 2, 3])", "x * s.sum()", "s[0] = 5"),
    ("s = np.array([1, 2, 3])", "x * int(s[0])", "s[0] = 5"),
    ("s = np.array([2.0])", "x * (s * 2)[0]", "s[...] = 5"),
    ("s = np.array(2.0)", "x * float(s)", "s[()] = 5"),
    ("s = np.array([0, 1])", "x[s]", "s[1] = 2"),
    ("s = np.ma.array([1.0, 2.0], mask=[0, 0])", "x * s.sum()", "s.mask = [0, 1]"),
    ("s = np.ma.array([1.0, 2.0], mask=[0, 0])", "x * s.mask.sum()", "s.mask[0] = True"),
    ("s = np.ones(20000)", "x * s.sum()", "s[10000] = 5"),
    ("s = np.ones((3, 4))", "x * s.shape[0]", "s.resize((4, 3), refcheck=False)"),
    ("s = np.array([[2.0], None], object)", "x * s[0][0]", "s[0][0] = 3.0"),
    ("base = np.ones(3)\ns = base[:2]\ns.flags.writeable = False", "x * s.sum()", "base[0] = 5"),
)  # fmt: skip

OBJECTS = programs(
    ("import ctypes\nv = ctypes.c_double(2.0)", "x * v.value", "v.value = 3.0"),
    ("import importlib, sys, types\nm = sys.modules['guards_a'] = types.ModuleType('guards_a')\n"
     "m.rate = 2.0", "x * importlib.import_module('guards_a').rate", "m.rate = 3.0"),
    ("import sys, types\nm = sys.modules['guards_b'] = types.ModuleType('guards_b')\n"
     "m.rate = 2.0", "x * sys.modules['guards_b'].rate", "m.rate = 3.0"),
    ("try:\n    raise ValueError([2.0])\nexcept ValueError as error:\n    e = error",
     "x * e.args[0][0]", "e.args[0][0] = 3.0"),
    ("def q():\n    pass", "x * len(q.__name__)", "q.__name__ = 'other'"),
    ("class H:\n    pass", "x * len(H.__name__)", "H.__name__ = 'Other'"),
    ("import configparser\nc = configparser.ConfigParser()\nc['a'] = {'b': '2'}",
     "x * float(c['a']['b'])", "c['a']['b'] = '3'"),
    ("def q():\n    yield s\ns = 2.0", "x * sum(q())", "s = 3.0"),
    (HOLDER + "def f(x):\n    import contextlib\n    with contextlib.suppress(AttributeError):\n"
     "        return x * h.other\n    return x", None, "h.other = 3.0"),
    (HOLDER, "x * h.rate", "h.rate = 3.0"),
    (HOLDER, "x * h.rate", "Holder.rate = 3.0"),
    (HOLDER, "x * Holder.rate", "Holder.rate = 3.0"),
    (HOLDER, "h.scaled(x)", "h.rate = 3.0"),
    (HOLDER, "h.scaled(x)", "Holder.rate = 3.0"),
    (HOLDER, "h.scaled(x)", "Holder.scaled = lambda self, x: x * 7"),
    (HOLDER, "h.scaled(x)", "h.scaled = lambda x: x * 7"),
    (HOLDER, "h.scaled(x)", "h = Holder(); h.rate = 5.0"),
    (HOLDER, "h.scaled(x)", "h.__class__ = type('Other', (Holder,), {'rate': 7.0})"),
    (HOLDER, "h.scaled(x)", "vars(h)['rate'] = 3.0"),
    (HOLDER, "h.scaled(x)", "h.__dict__ = {'rate': 3.0}"),
    (HOLDER + "h.rate = 5.0", "h.scaled(x)", "del h.rate"),
    (HOLDER + "f = h.scaled", None, "h.rate = 3.0"),
    (HOLDER + "f = h.scaled", None, "Holder.rate = 3.0"),
    (HOLDER + "def f(x, h=h):\n    return h.scaled(x)", None, "h.rate = 3.0"),
    (HOLDER, "x * getattr(h, 'rate')", "h.rate = 3.0"),
    (HOLDER + "name = 'rate'", "x * getattr(h, name)", "h.rate = 3.0"),
    (HOLDER + "name = 'rate'", "x * getattr(h, name)", "Holder.rate = 3.0"),
    (HOLDER + "name = 'other'", "x * getattr(h, name, 1.0)", "h.other = 3.0"),
    (HOLDER, "x * getattr(h, 'other', 1.0)", "h.other = 3.0"),
    (HOLDER, "x * getattr(h, 'other', 1.0)", "Holder.other = 3.0"),
    (HOLDER, "x * (2 if hasattr(h, 'other') else 1)", "h.other = 3.0"),
    (HOLDER + "def f(x):\n    try:\n        return x * h.other\n    except AttributeError:\n"
     "        return x", None, "h.other = 3.0"),
    (HOLDER + "def f(x):\n    try:\n        return x * h.other\n    except Exception:\n"
     "        return x", None, "Holder.other = 3.0"),
    (HOLDER + "def f(x):\n    try:\n        return x * h.other\n    except:\n"
     "        return x", None, "h.other = 3.0"),
    (HOLDER + "def f(x):\n    match h:\n        case Holder(rate=r):\n            return x * r",
     None, "h.rate = 3.0"),
    (HOLDER, "x * type(h).rate", "Holder.rate = 3.0"),
    (HOLDER + "class Sub(Holder):\n    @property\n    def rate(self):\n"
     "        return super().rate\nh = Sub()", "x * h.rate", "Holder.rate = 3.0"),
    (HOLDER + "holders = {'a': h}", "holders['a'].scaled(x)", "h.rate = 3.0"),
    (HOLDER + "def first(*things, **options):\n    return things[0]", "first(h, a=1).scaled(x)",
     "h.rate = 3.0"),
    (HOLDER + "import weakref\nd = weakref.WeakValueDictionary(a=h)", "x * d['a'].rate",
     "h.rate = 3.0"),
    (HOLDER + "import weakref\nd = weakref.WeakKeyDictionary()\nd[h] = 2.0", "x * d[h]",
     "d[h] = 3.0"),
    (HOLDER + "import functools\nHolder.half = functools.partialmethod(Holder.scaled)",
     "h.half(x)", "h.rate = 3.0"),
    ("import functools\n@functools.singledispatch\ndef q(v):\n    return 2.0", "x * q(1)",
     "q.register(int, lambda v: 3.0)"),
    ("import contextlib\ns = 2.0\n@contextlib.contextmanager\ndef q():\n    yield s\n"
     "def f(x):\n    with q() as s:\n        return x * s", None, "s = 3.0"),
    ("def make():\n    s = 2.0\n    def change(v):\n        nonlocal s\n        s = v\n"
     "    return __import__('operator').call, [lambda: s], change\n"
     "call, q, change = make()", "x * call(q[0])", "change(3.0)"),
    ("import fractions\ns = fractions.Fraction(1, 2)", "x * float(s)",
     "s = fractions.Fraction(1, 3)"),
    ("import datetime\ns = datetime.timedelta(1)", "x * s.days", "s = datetime.timedelta(2)"),
    ("import re\ns = re.compile('a')", "x * len(s.pattern)", "s = re.compile('aa')"),
    ("import random\ns = random.Random(0)", "x * s.getstate()[1][0]", "s.seed(1)"),
    (HOLDER + "h.a = 1.0", "x * vars(h)['a']", "h.a = 3.0"),
    (HOLDER + "h.a = 1.0", "x * len(vars(h))", "h.b = 3.0"),
    (HOLDER + "h.a = 1.0", "x * sum(h.__dict__.values())", "h.b = 3.0"),
    ("n = __import__('types').SimpleNamespace(a=1.0)", "x * sum(vars(n).values())", "n.b = 3.0"),
    ("m = tg.nn.Module()\nm.a = 1.0", "x * sum(vars(m).values())", "m.b = 3.0"),
    (HOLDER + "h.part = [2.0, 'a']", "x * h.part[0]", "h.part[0] = 3.0"),
    (HOLDER + "h.part = Holder()", "x * h.part.rate", "h.part.rate = 3.0"),
    (HOLDER + "h.part = Holder()", "h.part.scaled(x)", "h.part = Holder(); h.part.rate = 3.0"),
    (HOLDER + "h.q = np.sin", "h.q(x)", "h.q = np.cos"),
    (HOLDER + "class Sub(Holder):\n    pass\nh = Sub()", "h.scaled(x)", "Holder.rate = 3.0"),
    (HOLDER + "class Sub(Holder):\n    pass\nh = Sub()", "h.scaled(x)", "Sub.rate = 3.0"),
    (HOLDER + "class Sub(Holder):\n    pass\nh = Sub()", "h.scaled(x)",
     "Sub.scaled = lambda self, x: x * 7"),
    (HOLDER + "class Sub(Holder):\n    def scaled(self, x):\n        return super().scaled(x) + 1\n"
     "h = Sub()", "h.scaled(x)", "Holder.scaled = lambda self, x: x * 7"),
    (HOLDER + "class Other(Holder):\n    rate = 5.0\nclass Sub(Holder):\n    pass\nh = Sub()",
     "h.scaled(x)", "Sub.__bases__ = (Other,)"),
    (HOLDER + "Holder.__call__ = lambda self, x: x * 2", "h(x)",
     "Holder.__call__ = lambda self, x: x * 3"),
    (HOLDER + "Holder.__getitem__ = lambda self, i: 2.0", "x * h[0]",
     "Holder.__getitem__ = lambda self, i: 3.0"),
    (HOLDER + "Holder.__len__ = lambda self: 2", "x * len(h)", "Holder.__len__ = lambda self: 3"),
    (HOLDER + "Holder.__mul__ = lambda self, x: x * self.rate", "h * x", "h.rate = 3.0"),
    (HOLDER + "Holder.__iter__ = lambda self: iter([self.rate])", "x * sum(h)", "h.rate = 3.0"),
    (HOLDER + "Holder.__bool__ = lambda self: self.rate > 2.5", "x if h else x * 2",
     "h.rate = 3.0"),
    (HOLDER + "Holder.__enter__ = lambda self: self.rate\nHolder.__exit__ = lambda *a: None\n"
     "def f(x):\n    with h as rate:\n        return x * rate", None, "h.rate = 3.0"),
    ("class P:\n    def __init__(self):\n        self.a = 2.0\n    @property\n    def rate(self):\n"
     "        return self.a\np = P()", "x * p.rate", "p.a = 3.0"),
    ("class P:\n    @property\n    def rate(self):\n        return 2.0\np = P()", "x * p.rate",
     "P.rate = property(lambda self: 3.0)"),
    ("import functools\nclass P:\n    a = 2.0\n    @functools.cached_property\n"
     "    def rate(self):\n"
     "        return self.a\np = P()\np.rate", "x * p.rate", "del p.rate; P.a = 3.0"),
    ("class P:\n    @staticmethod\n    def q(x):\n        return x * s\ns = 2.0", "P.q(x)",
     "s = 3.0"),
    ("class P:\n    @staticmethod\n    def q(x):\n        return x * 2", "P.q(x)",
     "P.q = staticmethod(lambda x: x * 3)"),
    ("class P:\n    rate = 2.0\n    @classmethod\n    def q(cls, x):\n        return x * cls.rate",
     "P.q(x)", "P.rate = 3.0"),
    ("class P:\n    @classmethod\n    def q(cls, x):\n        return x * 2", "P.q(x)",
     "P.q = classmethod(lambda cls, x: x * 3)"),
    ("class P:\n    rates = [2.0, 'a']\np = P()", "x * p.rates[0]", "P.rates[0] = 3.0"),
    ("class P:\n    class Q:\n        rate = 2.0", "x * P.Q.rate", "P.Q.rate = 3.0"),
    ("class M(type):\n    rate = 2.0\nclass P(metaclass=M):\n    pass", "x * P.rate",
     "M.rate = 3.0"),
    ("class P:\n    def __getattr__(self, name):\n        return values[name]\n"
     "values = {'a': 2.0}\n"
     "p = P()", "x * p.a", "values['a'] = 3.0"),
    ("class P:\n    def __getattr__(self, name):\n        return 2.0\np = P()", "x * p.a",
     "p.a = 3.0"),
    ("class P:\n    def __getattribute__(self, name):\n        return values[name]\n"
     "values = {'a': 2.0}\np = P()", "x * p.a", "values['a'] = 3.0"),
    ("class D:\n    def __get__(self, thing, kind):\n        return self.a\nd = D()\nd.a = 2.0\n"
     "class P:\n    rate = d\np = P()", "x * p.rate", "d.a = 3.0"),
    (SLOTS, "x * h.rate", "h.rate = 3.0"),
    (SLOTS, "x * h.part[0]", "h.part[0] = 3.0"),
    (SLOTS, "x * h.part[0]", "h.part = [3.0]"),
    (SLOTS + "class Sub(Slots):\n    pass\nh = Sub()\nh.rate = 2.0\nh.a = 1.0", "x * h.rate * h.a",
     "h.a = 5.0"),
    (SLOTS, "x * getattr(h, 'rate')", "h.rate = 3.0"),
    ("from dataclasses import dataclass, field\n@dataclass\nclass C:\n    rate: float = 2.0\n"
     "c = C()",
     "x * c.rate", "c.rate = 3.0"),
    ("from dataclasses import dataclass, asdict\n@dataclass\nclass C:\n    rate: float = 2.0\n"
     "c = C()",
     "x * asdict(c)['rate']", "c.rate = 3.0"),
    ("import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    rate: float = 2.0\n"
     "c = C()", "x * c.rate", "c = dataclasses.replace(c, rate=3.0)"),
    ("import dataclasses\n@dataclasses.dataclass(slots=True)\nclass C:\n    rate: float = 2.0\n"
     "c = C()", "x * c.rate", "c.rate = 3.0"),
    (HOLDER + "import copy", "x * copy.copy(h).a\nh.a = 2.0", "h.a = 3.0"),
    (HOLDER + "import operator\nh.a = 2.0\nq = operator.attrgetter('a')", "x * q(h)", "h.a = 3.0"),
    ("import enum\nclass E(enum.Enum):\n    A = 2.0\n    B = 3.0\ne = E.A", "x * e.value",
     "e = E.B"),
    ("import sys, types\nm = types.ModuleType('options')\nm.rate = 2.0", "x * m.rate",
     "m.rate = 3.0"),
    ("import sys, types\nm = types.ModuleType('options')\nm.rates = [2.0, 'a']", "x * m.rates[0]",
     "m.rates[0] = 3.0"),
    ("import sys, types\nm = types.ModuleType('options')\nm.rate = 2.0", "x * getattr(m, 'rate')",
     "m.rate = 3.0"),
    ("import types\nm = types.ModuleType('helpers')\n"
     "exec('def q(x):\\n    return x * s\\ns = 2.0', vars(m))", "m.q(x)", "m.s = 3.0"),
    ("import types\nm = types.ModuleType('helpers')\n"
     "exec('def q(x):\\n    return x * s\\ns = 2.0', vars(m))", "m.q(x)", "m.q = lambda x: x * 5"),
    ("import types\nm = types.ModuleType('helpers')\nm.part = types.ModuleType('helpers.part')\n"
     "m.part.rate = 2.0", "x * m.part.rate", "m.part.rate = 3.0"),
    ("import sys, types\nm = sys.modules['guards_options'] = types.ModuleType('guards_options')\n"
     "m.rate = 2.0\ndef f(x):\n    import guards_options\n    return x * guards_options.rate",
     None, "m.rate = 3.0"),
    ("import sys, types\nm = sys.modules['guards_options'] = types.ModuleType('guards_options')\n"
     "m.rate = 2.0\ndef f(x):\n    from guards_options import rate\n    return x * rate",
     None, "m.rate = 3.0"),
)  # fmt: skip

LIBRARY = programs(
    (LAYERS, "net(x)", "net.shift = 2.0"),
    (LAYERS, "net(x)", "vars(net)['shift'] = 2.0"),
    (LAYERS, "net(x)", "Net.scale = 3.0"),
    (LAYERS, "net(x)", "net.layers[0] = tg.nn.Linear(3, 3, rng=9)"),
    (LAYERS, "net(x)", "net.layers.append(tg.nn.Linear(3, 3, rng=9))"),
    (LAYERS, "net(x)", "net.layers.reverse()"),
    (LAYERS, "net(x)", "net.named['b'] = np.sin"),
    (LAYERS, "net(x)", "net.named['a'] = net.named.pop('a')"),
    (LAYERS, "net(x)", "net.layers[0].weight = tg.Tensor(np.ones((3, 3)), requires_grad=True)"),
    (LAYERS, "net(x)", "net.layers[0].weight.data = np.ones((3, 3))"),
    (LAYERS, "net(x)", "net.layers[0].bias = None"),
    (LAYERS, "net(x)", "Net.forward = Net.__call__ = lambda self, x: x * 7"),
    (LAYERS, "net.forward(x)", "net.forward = lambda x: x * 7"),
    (LAYERS, "x * len(net.parameters())", "net.layers.pop()"),
    (LAYERS, "x * len(net.parameters())", "net.extra = tg.Tensor(1.0, requires_grad=True)"),
    (LAYERS, "x * len(net.parameters())", "net.layers[0].weight.requires_grad = False"),
    (LAYERS, "x * (2 if net.layers[0].weight.requires_grad else 3)",
     "net.layers[0].weight.requires_grad = False"),
    ("net = tg.nn.Sequential(tg.nn.Linear(3, 3, rng=0), tg.nn.Tanh())", "net(x)",
     "net.steps['1'] = tg.nn.ReLU()"),
    ("net = tg.nn.Sequential(tg.nn.Linear(3, 3, rng=0), np.tanh)", "net(x)",
     "net.steps['2'] = np.sin"),
    ("net = tg.nn.Sequential(tg.nn.Linear(3, 3, rng=0), tg.nn.Dropout(0.5, rng=0))",
     "net(x)", "net.eval()"),
    ("net = tg.nn.BatchNorm1d(3)", "net(np.stack([x, 2 * x]))", "net.eval()"),
    ("net = tg.nn.BatchNorm1d(3)", "net(np.stack([x, 2 * x]))", "net.momentum = 0.5"),
    ("net = tg.nn.Dropout(0.5, rng=0)", "net(x)", "net.p = 0.1"),
    ("net = tg.MLP(3, [3, 2], rng=0)", "net(x)", "net.layers[0].activation = np.sin"),
    ("t = tg.Tensor([1.0, 2.0, 3.0])", "x * t", "t.data = [4.0, 5.0, 6.0]"),
    ("t = tg.Tensor([1.0, 2.0, 3.0])", "x * t", "t = tg.Tensor([4.0, 5.0, 6.0])"),
    ("t = tg.Tensor([1.0, 2.0, 3.0])", "x * t", "t *= 2"),
    ("t = tg.Tensor([1.0, 2.0, 3.0])", "x * t.size", "t.data = [1.0]"),
    ("t = tg.Tensor([1.0, 2.0, 3.0], requires_grad=True)", "x if t.grad is None else x * t.grad",
     "t.grad = np.ones(3)"),
    ("s = 2.0\nq = tg.checkpoint(lambda x: x * s)", "q(x)", "s = 3.0"),
    ("s = 2.0\nq = tg.differentiable(lambda x: x * s, lambda g, y, x: g * s)\n"
     "f = tg.grad(lambda x: np.sum(q(x)))", None, "s = 3.0"),
    ("s = 2.0", "tg.fori_loop(0, 3, lambda i, y: y * s, x)", "s = 3.0"),
    ("s = 2.0", "tg.scan(lambda y, a: (y * s + a, y), x, np.stack([x, x]))[0]", "s = 3.0"),
    ("s = 2.0", "tg.cond(x[0] > 0, lambda y: y * s, lambda y: y, x)", "s = 3.0"),
    ("s = 2.0", "tg.cond(x[0] < 0, lambda y: y * s, lambda y: y + s, x)", "s = 3.0"),
    ("s = 50.0", "tg.while_loop(lambda y: np.sum(y) < s, lambda y: y * 2, x)", "s = 300.0"),
    ("s = 2.0\nf = tg.grad(lambda x: np.sum(tg.fori_loop(0, 3, lambda i, y: y * s, x)))", None,
     "s = 3.0"),
    ("", "np.log(x - x[0])", "np.seterr(divide='raise')"),
    ("def f(x):\n    with np.errstate(divide='warn'):\n        return np.log(x - x[0])", None,
     "np.seterr(divide='raise')"),
    ("def f(x):\n    with np.errstate(divide='ignore'):\n        return np.log(x - x[0])", None,
     "np.seterr(divide='raise')"),
    (TRAINING, "step(x)", "optimizer.param_groups[0]['lr'] = 0.5"),
    (TRAINING, "step(x)", "optimizer.param_groups[0]['momentum'] = 0.0"),
    (TRAINING, "step(x), optimizer.param_groups[0]['lr']", "schedule.step()"),
    (TRAINING, "step(x), optimizer.param_groups[0]['lr']", "optimizer.param_groups[0]['lr'] = 0.5"),
    (TRAINING, "step(x), schedule.step(), optimizer.param_groups[0]['lr']", "schedule.step()"),
    (TRAINING, "step(x), schedule.step(), schedule.last_epoch", "schedule.step()"),
    (TRAINING, "step(x), schedule.step(), schedule.get_last_lr()", "schedule.step()"),
    (TRAINING, "step(x), schedule.get_last_lr()", "schedule.step()"),
    (TRAINING, "step(x), schedule.last_epoch", "schedule.step()"),
    (TRAINING, "step(x), average.update(), average.decay", "average.decay = 0.25"),
    (TRAINING, "step(x), average.decay", "average.decay = 0.25"),
    (TRAINING, "step(x), average.state_dict()['decay']", "average.decay = 0.25"),
    (TRAINING, "step(x), optimizer.state_dict()['state'][0]['step']", "step(x)"),
    (TRAINING, "step(x), [g['lr'] for g in optimizer.param_groups]", "schedule.step()"),
    (TRAINING, "step(x), len(optimizer.param_groups)",
     "t = tg.Tensor([1.0], requires_grad=True); optimizer.add_param_group({'params': [t]})"),
    (TRAINING + "inner = tg.compile(step)", "inner(x) * 2",
     "optimizer.param_groups[0]['lr'] = 0.5"),
    (TRAINING + "inner = tg.compile(step)\ninner(np.ones(3))", "inner(x) * 2", "inner(x)"),
    (TRAINING + "inner = tg.compile(lambda: step(np.ones((2, 3))))\ninner()", "inner() * x",
     "inner()"),
    (TRAINING + "inner = tg.compile(lambda x: step(x))", "inner.scan(np.ones((2, 3))) * x[0]",
     "inner(x)"),
    (TRAINING + "class Trainer:\n    inner = tg.compile(lambda self, x: step(x))\nt = Trainer()",
     "t.inner(x)", "schedule.step()"),
    ("rng = np.random.default_rng(0)\nnet = tg.nn.Dropout(0.5, rng=rng)", "net(x)",
     "rng.bit_generator.state = np.random.default_rng(5).bit_generator.state"),
    ("", "x * np.random.default_rng(0).normal()", "pass"),
    ("seed = 0", "x * np.random.default_rng(seed).normal()", "seed = 1"),
    ("", "x * np.random.RandomState(0).normal()", "pass"),
    ("", "x * np.random.default_rng().normal()", "pass"),
    ("", "x * np.random.RandomState().normal()", "pass"),
    ("", "tg.nn.Linear(3, 2)(x)", "pass"),
    ("", "tg.nn.Linear(3, 2, rng=0)(x)", "pass"),
    ("import random", "x * random.SystemRandom().random()", "pass"),
    (TRAINING, "step(x), vars(schedule).update(last_epoch=5)", "pass"),
    (TRAINING, "schedule.step(), vars(schedule).update(last_epoch=5)", "pass"),
    (TRAINING, "vars(average).update(decay=0.25), average.update()", "pass"),
    (TRAINING, "schedule.load_state_dict(schedule.state_dict() | {'last_epoch': 5})", "pass"),
    (TRAINING + "t = tg.Tensor([1.0], requires_grad=True)\ngroup = {'params': [t]}",
     "optimizer.add_param_group(group)", "pass"),
)  # fmt: skip


CATALOGUE = NAMES + CONTAINERS + OBJECTS + LIBRARY
# What is refused; and what a schedule changes in each call of the function itself.
REFUSED = (
    "average.state_dict()", "optimizer.state_dict()", "default_rng().", "SystemRandom",
    "RandomState().", "Linear(3, 2)(x)",
    "vars(schedule)", "vars(average)", "add_param_group(group)", "load_state_dict",
)  # fmt: skip
MOVING = ("schedule.step(), ",)


class Run:
    """A program of the catalogue, with a state of its own."""

    def __init__(self, program: Program) -> None:
        self.names: dict[str, Any] = {"np": np, "tg": tg, "__name__": __name__}
        result, _, more = (program.result or "").partition("\n")
        exec(program.state, self.names)
        if program.result is not None:
            exec(f"def f(x):\n    return {result}\n{more}", self.names)
        self.fun: Callable[..., Any] = self.names["f"]
        self.x = self.names["x"] = np.array([1.0, 2.0, 3.0])

    def change(self, program: Program) -> None:
        exec(program.change, self.names)


def outcome(fun: Callable[..., Any], x: Any) -> Any:
    """What a call returns, or the class of the error that it raises."""
    try:
        return fun(x)
    except tg.TraceError:
        raise
    except Exception as error:
        return type(error)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("program", CATALOGUE, ids=lambda p: f"{p.result or 'f'}: {p.change}")
def test_what_changes_is_never_old(program: Program) -> None:
    """Nor is anything traced anew as long as nothing changes."""
    eager, traced = Run(program), Run(program)
    compiled = tg.compile(traced.fun)
    if any(name in (program.result or "") for name in REFUSED):
        with pytest.raises(tg.TraceError, match="outside"):
            compiled(traced.x)
        return
    moves = any(name in (program.result or "") for name in MOVING)
    for changed in False, True:
        if changed:
            for run in eager, traced:
                with np.errstate():
                    run.change(program)
                    settings = np.geterr()
        with np.errstate(**(settings if changed else {})):
            for i in range(3):
                assert_same(outcome(compiled, traced.x), outcome(eager.fun, eager.x))
                if i == 0:
                    traces = compiled.scan.__self__._traced
        assert moves or compiled.scan.__self__._traced == traces
