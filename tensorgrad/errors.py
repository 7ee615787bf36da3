"""The errors that are the library's own; each is also the built-in error it resembles."""


class TensorgradError(Exception):
    """The base of every error defined here."""


class GraphError(TensorgradError, RuntimeError):
    """The graph cannot answer: there is none, it was freed, or a leaf was changed under it."""


class NoRuleError(TensorgradError, TypeError):
    """A function was called on a tracked tensor in a way that has no derivative rule."""


class GradcheckError(TensorgradError, AssertionError):
    """An analytic and a numeric derivative disagree."""


class AnomalyError(TensorgradError, FloatingPointError):
    """An operation made a NaN or an infinity of finite numbers."""


class TraceError(TensorgradError, TypeError):
    """A function cannot be compiled, for a reason that the message names together with the cure."""
