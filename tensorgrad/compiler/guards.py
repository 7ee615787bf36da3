"""Guards: what of Python's state a program relies on, and the function that tests it.

A traced function has read variables, attributes and items. A later call may find others there. So
each is looked up again, as the function's own code did, and compared with what it was: the same
object, or an equal number or text. What counts is read off the code that has run, which `executed`
knows: the variables that it loads, and the attributes that it names, of all objects in reach. Of
lists, dicts and other containers in reach, all items count.
"""

from __future__ import annotations

import builtins
import contextvars
import functools
import gc
import operator
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from keyword import iskeyword
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from ..engine.tensor import Tensor
from ..engine.views import is_writeable
from .checks import Checks
from .executed import loads_of
from .ir import PACKAGE
from .objects import (
    attributes_of,
    function_of,
    has_type,
    is_installed,
    is_librarys,
    is_plain,
    is_value,
    module_of,
    parts_of,
    same_elements,
    same_items,
    same_parts,
    slots_of,
)
from .snapshot import FOLLOWED, Snapshot

_LIBRARY = __package__.partition(".")[0]
_FEW = 8  # items, up to which each is tested by a line of its own
_SMALL = 1 << 12  # bytes of a plain array, up to which its elements are always compared
_REFLECTIVE_TYPES = (operator.attrgetter, operator.methodcaller)
_REFLECTIVE_MODULES = {"copy", "dataclasses", "inspect", "pickle"}
# What an optimizer or a schedule does in a compiled function without telling what it holds.
_STEPS = {"step", "zero_grad", "update", "copy_to", "applied"}
_CONTAINERS: tuple[Any, ...] = (list, tuple, dict, deque, set, frozenset, Mapping)
# What functions and classes are called, and what finds modules by their names.
_NAMES = {"__name__", "__qualname__", "__doc__", "__module__"}
_BY_NAME = {"modules", "import_module", "__import__"}
_ABSENT = object()


class Guards:
    """What a program relies on of Python's state, as `checks`.

    `roots` are the traced function, and the objects among its arguments; `codes` is the code that
    ran, with its global variables; `snapshot` is from before the call; `is_read` says of a plain
    array whether the program reads it in each call. `tensors` are those that were found.
    """

    def __init__(
        self,
        roots: Iterable[Any],
        codes: Mapping[CodeType, dict[str, Any]],
        snapshot: Snapshot,
        is_read: Callable[[Any], bool],
    ) -> None:
        self.checks = Checks()
        self.tensors: list[Tensor] = []
        self._is_read = is_read
        self._before = snapshot.before()
        self._reads_followed = False  # whether the user looks into an optimizer or a schedule
        self._seen: dict[int, Any] = {}
        self._todo: list[Any] = [*roots]
        self._note_names(codes)
        for code, variables in self._users.items():
            self._visit_variables(code, variables)
        ours = [code for code in codes if code.co_filename.startswith(PACKAGE)]
        if any({"errstate", "seterr"} & {*code.co_names} for code in (*ours, *self._users)):
            self.checks.test("{}() == {}", np.geterr, np.geterr())
        self._visit_all()
        self._todo = self._unknown_functions()
        self._visit_all()
        if self._reads_followed:
            for holder, before in snapshot.moved():
                self.checks.test("{}({}, {})", same_parts, holder, before)

    # -- what was read

    def _note_names(self, codes: Mapping[CodeType, dict[str, Any]]) -> None:
        """The attributes that the code names: the user's, that of layers, and that of others."""
        self._ran = codes.keys()
        self._users = {c: v for c, v in codes.items() if not _is_librarys_code(c, v)}
        loads = [*map(loads_of, self._users)]
        self._attributes = {name for load in loads for name in load.attributes | load.asked}
        catches = any(load.catches for load in loads)  # so that an attribute may be missing
        self._asked = self._attributes if catches else {n for load in loads for n in load.asked}
        self._reflects = any(load.reflects for load in loads)
        others = [code for code in codes if code not in self._users]
        layers = [code for code in others if code.co_filename.startswith(f"{PACKAGE}nn")]
        self._of_layers = {name for code in layers for name in code.co_names}
        self._lists_modules = any(
            "vars" in c.co_names for c in layers if os.path.basename(c.co_filename) == "contents.py"
        )
        foreign = [code for code in others if not code.co_filename.startswith(PACKAGE)]
        self._of_libraries = {
            name for code in foreign for name in code.co_names if not name.startswith("__")
        }

    def _visit_variables(self, code: CodeType, variables: dict[str, Any]) -> None:
        """The global variables that a code loads, and the modules that it imports."""
        load = loads_of(code)
        names = load.variables | ({*variables} if "globals" in load.variables else set())
        for name in sorted(names):
            value = variables.get(name, getattr(builtins, name, _ABSENT))
            if value is _ABSENT:
                self.checks.test(f"{name!r} not in {{}}", variables)
            else:
                self.checks.require_variable(variables, name, value)
                self._todo.append(value)
                self._reflects = self._reflects or _can_reflect(value)
        package = variables.get("__package__")
        modules = {*load.modules, *(f"{package}.{name}" for name in load.attributes)}
        if _BY_NAME & (load.variables | load.attributes):  # of modules, which then are texts
            modules |= {str(variables.get("__name__"))}
            modules |= {text for text in code.co_consts if isinstance(text, str)}
        self._todo += map(sys.modules.get, sorted(modules))

    def _visit_all(self) -> None:
        while self._todo:
            thing = self._todo.pop()
            if id(thing) not in self._seen and not is_plain(thing):
                self._seen[id(thing)] = thing
                self._visit(thing)

    def _visit(self, thing: Any) -> None:
        if has_type(thing, (FunctionType, type)):
            for name in sorted(self._attributes & _NAMES):
                self.checks.require(f"{{}}.{name}", getattr(thing, name), thing)
        if has_type(thing, Tensor):
            self.tensors.append(thing)
        elif has_type(thing, np.ndarray):
            self._visit_array(thing)
        elif has_type(thing, FunctionType):
            self._visit_function(thing)
        elif has_type(thing, MethodType):
            self._todo += thing.__self__, thing.__func__
        elif has_type(thing, functools.partial):
            self._todo += thing.func, thing.args, thing.keywords
        elif has_type(thing, ModuleType):
            if not is_librarys(thing):
                self._visit_attributes(thing, attributes_of(thing) or {}, self._attributes)
        elif has_type(thing, type):
            self._visit_class(thing)
        elif has_type(thing, BaseException):
            self.checks.require("{}.args", thing.args, thing)
            self._todo.append(thing.args)
            self._visit_object(thing)
        elif has_type(thing, weakref.ref):
            self.checks.require("{}()", thing(), thing)
            self._todo.append(thing())
        elif has_type(thing, contextvars.ContextVar):
            value = thing.get(_ABSENT)
            self.checks.require("{}.get({})", value, thing, _ABSENT)
            self._todo.append(value)
        elif _of_class(type(thing), "cache_info") is not _ABSENT:  # of functools
            self.checks.require("{}.cache_info()[1]", thing.cache_info()[1], thing)
            self._todo.append(thing.__wrapped__)
        elif _of_class(type(thing), "__next__") is _ABSENT:
            self._visit_object(thing)

    def _visit_array(self, array: Any) -> None:
        """A plain array, whose elements the program may have read once and for all."""
        if type(array) is not np.ndarray:
            held = attributes_of(array) or {}
            arrays = {name for name, part in held.items() if has_type(part, np.ndarray)}
            self._visit_attributes(array, held, self._attributes | arrays)
        if array.dtype.hasobject:
            self._todo += array.ravel().tolist()
        holders = [array]
        while isinstance(holders[-1].base, np.ndarray):
            holders.append(holders[-1].base)
        if not any(map(is_writeable, holders)) and holders[-1].flags.owndata:
            return
        if array.nbytes <= _SMALL:
            self.checks.require("{}.shape", array.shape, array)
            self.checks.test("{}.tobytes() == {}", array, array.tobytes())
        elif not self._is_read(array):
            self.checks.test("{}({}, {})", same_elements, array, array.copy())

    def _visit_function(self, function: FunctionType) -> None:
        code = function.__code__
        if is_librarys(function) and not (
            code in self._ran or code.co_filename.startswith(PACKAGE)
        ):
            return
        cells = dict(zip(code.co_freevars, function.__closure__ or ()))
        contents = {
            name: held["cell_contents"] for name, c in cells.items() if (held := parts_of(c))
        }
        self._todo += (vars(function).get("__wrapped__"), *contents.values())
        if code not in self._users:
            self._todo += function.__defaults__ or ()
            return
        self.checks.require("{}.__code__", code, function)
        if function.__defaults__ or function.__kwdefaults__:
            self.checks.require("{}.__defaults__", function.__defaults__, function)
            self.checks.require("{}.__kwdefaults__", function.__kwdefaults__, function)
            self._todo += function.__defaults__, function.__kwdefaults__
        for name, content in contents.items():
            self.checks.require_content(cells[name], name, content)
        self._visit_attributes(function, vars(function), self._attributes)

    def _unknown_functions(self) -> list[Any]:
        """The functions whose code has run, but which were not found."""
        known = {c for code in self._users for c in code.co_consts if isinstance(c, CodeType)}
        known |= {f.__code__ for f in self._seen.values() if has_type(f, FunctionType)}
        lost = self._users.keys() - known
        return [f for f in gc.get_referrers(*lost) if type(f) is FunctionType] if lost else []

    def _visit_class(self, kind: type) -> None:
        """The attributes that the user's code names, and the methods that ran."""
        if is_librarys(kind):
            return
        self._todo += (type(kind), *kind.__mro__)
        self.checks.require("{}.__mro__", kind.__mro__, kind)
        for name in {name for base in kind.__mro__ for name in vars(base)}:
            base = next(base for base in kind.__mro__ if name in vars(base))
            part = vars(base)[name]
            function = function_of(part)
            every = self._reflects and not name.startswith("__") and not is_librarys(base)
            if name in self._attributes or every or _code_of(function) in self._users:
                self._todo += part, function
                if type(kind) is type and has_type(part, FunctionType):
                    self.checks.require(f"{{}}.{name}", part, kind)
                    continue
                self.checks.require(f"{{}}[{name!r}]", part, vars(base))
                for above in kind.__mro__[: kind.__mro__.index(base)]:
                    self.checks.test(f"{name!r} not in {{}}", vars(above))
        if self._reflects:
            self.checks.test(f"{len(vars(kind))} == {{}}({{}})", len, vars(kind))

    def _visit_object(self, thing: Any) -> None:
        kind, held = type(thing), attributes_of(thing)
        parts = self._before.get(id(thing), parts_of(thing)) or {}
        is_container = self._visit_container(thing, parts)
        if not held and not is_container and is_librarys(kind):
            self._visit_opaque(thing)
        if held is None and not slots_of(thing):
            return
        own, is_ours = (held or {}) | slots_of(thing), module_of(kind).startswith(_LIBRARY)
        if module_of(kind).startswith(FOLLOWED):
            if not is_container:
                self._visit_followed(thing, parts)
        elif _counts_changes(kind):
            self._visit_module(thing, own)
        elif not is_librarys(kind):
            self.checks.require("{}({})", kind, type, thing)
            self._todo.append(kind)
            self._visit_attributes(thing, own, self._attributes)
        elif is_ours:  # as another compiled function
            self._todo.append(own.get("__wrapped__"))
        else:
            self._visit_attributes(thing, own, self._attributes | self._of_libraries)

    def _visit_module(self, module: Any, own: dict[str, Any]) -> None:
        """A module, which counts in `epoch` what is set.

        What the user's own class reads is looked up in each call: it may be set in another way.
        """
        kind, names = type(module), self._attributes | self._of_layers
        self.checks.require("{}({})", kind, type, module, settled=True)
        self._todo.append(kind)
        self._visit_attributes(module, own, names, self._lists_modules, settled=True)
        held = attributes_of(module) or {}
        if not is_librarys(kind):
            for name in sorted(held.keys() & names):
                self.checks.require(f"{{}}[{name!r}]", held[name], held)

    def _visit_container(self, thing: Any, parts: dict[Any, Any]) -> bool:
        """The items of a container; return whether it is one."""
        if not has_type(thing, _CONTAINERS):
            return False
        values = [*parts.values()]
        self._todo += (*parts, *values)
        self._reads_followed |= id(thing) in self._before and any(map(is_value, values))
        if has_type(thing, (tuple, frozenset)):
            return True
        if type(thing) is list:
            self._visit_sequence("{}", "{}[{}]", range(len(values)), values, thing)
        elif type(thing) is dict and all(type(key) is str for key in parts):
            if parts:
                self.checks.test("[*{}] == {}", thing, [*parts])
            self._visit_sequence("{}.values()", "{}[{}]", [*parts], values, thing)
        else:
            self.checks.test("{}({}, {})", same_parts, thing, parts)
        return True

    def _visit_sequence(
        self, every: str, one: str, keys: Sequence[Any], values: list[Any], thing: Any
    ) -> None:
        """Require items to be the same: one by one or, if they are many, in a loop."""
        if len(values) > _FEW:
            self.checks.test(f"{{}}({every}, {{}})", same_items, thing, values)
            return
        self.checks.test(f"{len(values)} == {{}}({{}})", len, thing)
        for key, value in zip(keys, values, strict=True):
            self.checks.require(
                one.format("{}", repr(key).replace("{", "{{").replace("}", "}}")), value, thing
            )

    def _visit_opaque(self, thing: Any) -> None:
        """An object of C, that tells what it holds as a buffer, or to the garbage collector."""
        if is_librarys(type(thing)) and module_of(type(thing)).startswith("numpy"):
            return
        try:
            data = _data(thing)
        except TypeError:
            self._todo += gc.get_referents(thing)
        else:
            self.checks.require("{}({})", data, _data, thing)

    def _visit_followed(self, thing: Any, parts: dict[str, Any]) -> None:
        """What the user's code reads of an optimizer or a schedule, as it was before the call."""
        asked = self._attributes - _STEPS
        tells = any(_of_class(type(thing), n) is not _ABSENT for n in asked - parts.keys())
        for name in parts if tells else asked & parts.keys():
            self._reads_followed |= is_value(parts[name])
            self.checks.require(f"{{}}.{name}", parts[name], thing)
            self._todo.append(parts[name])

    def _visit_attributes(
        self,
        thing: Any,
        held: Mapping[str, Any],
        names: set[str],
        every: bool = False,
        settled: bool = False,
    ) -> None:
        """The attributes of these names, or of all; and that the names of others are still free."""
        own = attributes_of(thing)
        kind = type(thing)
        is_users = not is_librarys(kind) or kind is SimpleNamespace or _counts_changes(kind)
        every = every or (self._reflects and is_users)
        if every and own is not None:
            self.checks.test(f"{len(own)} == {{}}({{}})", len, own, settled=settled)
        for name in sorted(held.keys() & ({*held} if every else names)):
            if _is_read_plainly(thing, name):
                self.checks.require(f"{{}}.{name}", held[name], thing, settled=settled)
            else:
                holder = held if own is None else own
                self.checks.require(f"{{}}[{name!r}]", held[name], holder, settled=settled)
            self._todo.append(held[name])
        if own is not None and not has_type(thing, (ModuleType, FunctionType)):
            self._visit_absent(thing, own, names - own.keys(), settled)

    def _visit_absent(
        self, thing: Any, own: dict[str, Any], names: set[str], settled: bool
    ) -> None:
        """The attributes of these names that an object has of its class, or has not."""
        kind, free = type(thing), False
        is_open = _of_class(kind, "__getattr__") is not _ABSENT
        for name in sorted(names):
            part = _of_class(kind, name)
            is_data = part is not _ABSENT and _of_class(type(part), "__get__") is _ABSENT
            if is_data and _is_read_plainly(thing, name):
                self.checks.require(f"{{}}.{name}", part, thing, settled=settled)
            elif name in self._attributes and (part is not _ABSENT or is_open):
                free = True
                self.checks.test(f"{name!r} not in {{}}", own, settled=settled)
            elif name in self._asked:
                self.checks.require(f"{{}}({{}}, {name!r}, {{}})", _ABSENT, getattr, thing, _ABSENT)
        if free and has_type(_of_class(kind, "__dict__"), GetSetDescriptorType):
            self.checks.require("{}.__dict__", own, thing, settled=settled)


def _data(thing: Any) -> bytes:
    return bytes(memoryview(thing))


def _counts_changes(kind: type) -> bool:
    """Whether setting an attribute runs this library's code, which counts that in `epoch`."""
    code = _code_of(_of_class(kind, "__setattr__"))
    return code is not None and code.co_filename.startswith(PACKAGE)


def _can_reflect(thing: Any) -> bool:
    """Whether a function or a module can read attributes by names that no code shows."""
    if has_type(thing, ModuleType):
        return str((attributes_of(thing) or {}).get("__name__")) in _REFLECTIVE_MODULES
    is_function = has_type(thing, FunctionType) and module_of(thing) in _REFLECTIVE_MODULES
    return is_function or has_type(thing, _REFLECTIVE_TYPES)


def _code_of(thing: Any) -> CodeType | None:
    return thing.__code__ if has_type(thing, FunctionType) else None


def _of_class(kind: type, name: str) -> Any:
    """The attribute of a class as it is stored there, or `_ABSENT`."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), _ABSENT)


def _is_librarys_code(code: CodeType, variables: dict[str, Any]) -> bool:
    """Whether code is a library's; that of named tuples and dataclasses lies in no file."""
    name = str(variables.get("__name__"))
    made = code.co_filename == "<string>" and name.startswith(("namedtuple_", _LIBRARY))
    return made or is_installed(code.co_filename)


def _is_read_plainly(thing: Any, name: str) -> bool:
    """Whether `thing.name` is what the object itself holds, and runs no code of its class."""
    kind = type(thing)
    part = _of_class(kind, name)
    own = attributes_of(thing) or {}
    is_slot = has_type(part, MemberDescriptorType) and name not in own
    reader: Any = kind.__getattribute__
    plain = reader in (object.__getattribute__, ModuleType.__getattribute__)
    return (
        name.isidentifier()
        and not iskeyword(name)
        and plain
        and (is_slot or _of_class(type(part), "__set__") is _ABSENT)
    )
