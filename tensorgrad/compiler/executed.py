"""Which code a function runs, and what it names: nothing else can matter to a later call."""

from __future__ import annotations

import contextlib
import dis
import functools
import itertools
import os
import random
import sys
import threading
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, ClassVar, NamedTuple

from ..engine.typing import Function
from .objects import is_installed

# The code that asks the system for random numbers, as generators without a seed do.
_ENTROPY = {random.SystemRandom.getrandbits.__code__, random.SystemRandom.random.__code__}
_COMPILER = os.path.join(os.path.dirname(__file__), "")


# What reads any attribute of an object, by names that the code does not show.
_REFLECTIVE = {
    "vars", "dir", "attrgetter", "methodcaller", "asdict", "astuple", "getmembers", "deepcopy",
    "__dict__", "__getattribute__", "__getstate__", "__reduce_ex__",
}  # fmt: skip
_CATCHING = {"AttributeError", "Exception", "BaseException"}


class Loads(NamedTuple):
    """What a code names: variables, attributes, modules it imports, and what it asks getattr for.

    `reflects` says whether it can read any attribute, `catches` whether it can go on without one.
    """

    variables: frozenset[str]
    attributes: frozenset[str]
    modules: frozenset[str]
    asked: frozenset[str]
    reflects: bool
    catches: bool


@functools.lru_cache(maxsize=4096)
def loads_of(code: CodeType) -> Loads:
    """What a code names."""
    found: dict[str, set[str]] = {"GLOBAL": set(), "ATTR": set(), "IMPORT": set()}
    asked: set[str | None] = set()
    lines = [*dis.get_instructions(code)]
    for i, line in enumerate(lines):
        if line.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            found["GLOBAL"].add(line.argval)
            if line.argval in ("getattr", "hasattr"):
                asked.add(_second_argument(lines[i + 1 :]))
        elif line.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM"):
            found["ATTR"].add(line.argval)
        elif line.opname == "IMPORT_NAME":
            found["IMPORT"].add(line.argval)
    names = {name for name in asked if name is not None}
    loaded = found["GLOBAL"] | found["ATTR"]
    operations = [line.opname for line in lines]
    bare = any(pair == ("PUSH_EXC_INFO", "POP_TOP") for pair in itertools.pairwise(operations))
    reflects = None in asked or "MATCH_CLASS" in operations or bool(_REFLECTIVE & loaded)
    variables, attributes, modules = map(frozenset, found.values())
    return Loads(
        variables, attributes, modules, frozenset(names), reflects, bare or bool(_CATCHING & loaded)
    )


def _second_argument(lines: Iterable[dis.Instruction]) -> str | None:
    """The second argument of a call whose function has just been loaded, if it is a text."""
    depth = 0
    for line in lines:
        before, depth = depth, depth + dis.stack_effect(line.opcode, line.arg, jump=False)
        if depth >= 2:
            is_text = before == 1 and line.opname == "LOAD_CONST" and isinstance(line.argval, str)
            return line.argval if is_text else None
    return None


class Executed:
    """Notes the code that runs, from `start` to `stop`, with the global variables of each.

    Between `pause` and `resume`, what runs need not be noted. `stop` may be called twice. `entropy`
    are the user's lines at which the system was asked for random numbers. This class does it by a
    profile function, and calls one that the user has set, too.
    """

    def __init__(self) -> None:
        self.codes: dict[CodeType, dict[str, Any]] = {}
        self.entropy: list[str] = []
        self._outer: Any = None
        self._profile = self._profiler()
        self._is_on = False

    def start(self) -> None:
        """Begin."""
        self._outer = sys.getprofile()
        if callable(self._outer):
            self._profile = self._profiler_before(self._outer)
        self._is_on = True
        sys.setprofile(self._profile)

    def stop(self) -> None:
        """End."""
        self.pause()
        self._is_on = False

    @contextlib.contextmanager
    def apart(self) -> Iterator[dict[CodeType, dict[str, Any]]]:
        """A block; when it ends, the dict has all code that ran in it, noted before or not."""
        found: dict[CodeType, dict[str, Any]] = {}
        before = self.codes.copy()
        self.codes.clear()
        self._forget()
        try:
            yield found
        finally:
            found |= self.codes
            self.codes |= before

    def _forget(self) -> None:
        """Let code be noted again."""

    def pause(self) -> None:
        """Let code run without being noted, which takes less time."""
        if self._is_on and (self._outer is None or callable(self._outer)):
            sys.setprofile(self._outer)
        elif self._is_on:  # a profiler written in C
            self._outer.enable()

    def resume(self) -> None:
        """Note code again."""
        if self._is_on:
            sys.setprofile(self._profile)

    def _profiler(self) -> Function:
        """A profile function, which is called a hundred times for each call of NumPy's."""
        codes, note = self.codes, self.note

        def profile(frame: FrameType, event: str, _arg: Any) -> None:
            if event == "call" and frame.f_code not in codes:
                note(frame)

        return profile

    def _profiler_before(self, outer: Function) -> Function:
        """A profile function that calls another one, too."""
        first = self._profiler()

        def profile(frame: FrameType, event: str, arg: Any) -> None:
            first(frame, event, arg)
            outer(frame, event, arg)

        return profile

    def note(self, frame: FrameType) -> None:
        """Note the code of a frame that begins."""
        if frame.f_code in _ENTROPY:
            self._note_entropy(frame)
        else:
            self.codes.setdefault(frame.f_code, frame.f_globals)

    def _note_entropy(self, frame: FrameType) -> None:
        caller: FrameType | None = frame
        while caller is not None and is_installed(caller.f_code.co_filename):
            caller = caller.f_back
        if caller is not None:
            code, place = caller.f_code, f"{caller.f_code.co_filename}:{caller.f_lineno}"
            # A RandomState asks for some even where it then takes the seed that it is given.
            arguments = code.co_code[caller.f_lasti + 1]
            if arguments == 0 or "RandomState" not in code.co_names:
                self.entropy.append(place)


class Monitored(Executed):
    """The same by `sys.monitoring`, from Python 3.12 on, which calls once for each code.

    It notes what all threads run.
    """

    _blocks: ClassVar[list[Monitored]] = []
    _lock = threading.Lock()
    _tool = 4  # a number that is no debugger's, profiler's or coverage tool's

    def start(self) -> None:
        """Begin."""
        monitoring: Any = vars(sys)["monitoring"]
        with self._lock:
            if monitoring.get_tool(self._tool) is None:
                monitoring.use_tool_id(self._tool, __package__)
            self._blocks.append(self)
            self._is_on = True
            event = monitoring.events.PY_START
            monitoring.register_callback(self._tool, event, self._start)
            monitoring.set_events(self._tool, event)
            monitoring.restart_events()

    def stop(self) -> None:
        """End."""
        monitoring: Any = vars(sys)["monitoring"]
        with self._lock:
            if self in self._blocks:
                self._blocks.remove(self)
                if not self._blocks:
                    monitoring.set_events(self._tool, 0)
                    monitoring.free_tool_id(self._tool)

    def _forget(self) -> None:
        vars(sys)["monitoring"].restart_events()

    def pause(self) -> None:
        """Let code run without being noted."""
        self._is_on = False

    def resume(self) -> None:
        """Note code again."""
        self._is_on = True

    @classmethod
    def _start(cls, code: CodeType, _offset: int) -> Any:
        """Note a code; return what says that it need not be told again."""
        noted = True
        for block in cls._blocks:
            if block._is_on:
                block.note(sys._getframe(1))
            else:
                noted = code.co_filename.startswith(_COMPILER)
        return vars(sys)["monitoring"].DISABLE if noted else None


def executed() -> Executed:
    """A new one, of the kind that this version of Python has."""
    return Monitored() if hasattr(sys, "monitoring") else Executed()
