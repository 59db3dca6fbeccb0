"""Composites: which rule acts on which operation. A composite is data: a `Rules`, with exceptions by layer, position or predicate."""

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ..core._operations import KIND
from ..core.errors import UnknownName, UsageError
from ..core.question import Question
from ..core.rules import Call, Chosen, Rule, Rules, plain
from ..core.tree import leaves
from ._relevance import alpha_beta, box, constant, contrasted, epsilon, first_order, flat, gamma, identity, passing, positive, shared, square

FIRST, LAST = "first", "last"


@dataclass(frozen=True)
class Options:
    """The numbers that rules take. `low` and `high` are the valid range of the input, where it is known."""

    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0
    bias: bool = True
    low: Any = None
    high: Any = None


RULES: dict[str, Callable[[Options], Rule]] = {
    "lrp-0": lambda o: plain if o.bias else epsilon(0.0, False),
    "epsilon": lambda o: epsilon(o.epsilon, o.bias) if o.epsilon or not o.bias else plain,
    "gamma": lambda o: gamma(o.gamma, o.bias),
    "z-plus": lambda o: positive(o.bias),
    "alpha-beta": lambda o: alpha_beta(o.alpha, o.alpha - 1, o.bias),
    "w-square": lambda o: square(o.bias),
    "flat": lambda o: flat,
    "z-box": lambda o: box(o.low, o.high),
    "excitation": lambda o: positive(False),
    "contrast": lambda o: contrasted,
    "pass": lambda o: passing,
}
"""Rules for operations with weights, by name."""

TO_ZEROS = frozenset(["w-square", "flat", "z-box"])
"""Rules that give to inputs which are zero."""

COMPOSITES: dict[str, dict[str, str]] = {
    "lrp-0": {"weights": "lrp-0"},
    "epsilon": {"weights": "epsilon"},
    "gamma": {"weights": "gamma"},
    "z-plus": {"weights": "z-plus"},
    "epsilon-plus": {"weights": "z-plus", "linear": "epsilon"},
    "epsilon-plus-flat": {FIRST: "flat", "weights": "z-plus", "linear": "epsilon"},
    "epsilon-gamma-box": {FIRST: "z-box", "weights": "gamma", "linear": "epsilon"},
    "alpha2-beta1": {"weights": "alpha-beta", "linear": "epsilon"},
    "alpha2-beta1-flat": {FIRST: "flat", "weights": "alpha-beta", "linear": "epsilon"},
    "deep-taylor-box": {FIRST: "z-box", "weights": "excitation"},
    "deep-taylor-square": {FIRST: "w-square", "weights": "excitation"},
    "excitation-backprop": {"weights": "excitation"},
    "contrastive-excitation-backprop": {"weights": "contrast"},
}
"""Where -> the rule there; the first that fits wins. "weights" is every operation with weights, "linear" those without a convolution."""


def composite(q: Question, given: str | Rules, options: Options, over: Any = None) -> Rules:
    """The rules of a named composite; `over` (where -> rule) goes before its own. At a layer inside, the first weights are out of reach."""
    check_places(q, over)
    low, high = input_range(q)
    options = replace(options, low=low, high=high)
    if isinstance(given, Rules):
        return overridden(given, over, options)
    if given not in COMPOSITES:
        raise UsageError(f"rules= needs a Rules value (pellucid.core.rules), or use composite= with one of {', '.join(COMPOSITES)}; got {given!r}.")
    places = pairs(over) + [(w, r) for w, r in COMPOSITES[given].items() if w != "weights"]
    if q.places and q.engine.slots:
        places = [(w, r) for w, r in places if w != FIRST]
    base = Rules(weights=RULES[COMPOSITES[given]["weights"]](options), pointwise=identity, product=shared, scale=constant, softmax=first_order)
    return overridden(base, places, options)


def pairs(over: Any) -> list[tuple[Any, Any]]:
    """Exceptions as a list, however they are given."""
    if not over:
        return []
    given = list(over.items()) if isinstance(over, Mapping) else over
    if not isinstance(given, (list, tuple)) or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in given):
        raise UsageError(f'over needs where -> rule, such as {{"first": "flat", "blocks.3": "gamma"}}; got {over!r}.')
    return [(where, rule) for where, rule in given]


def overridden(rules: Rules, over: Any, options: Options) -> Rules:
    """The rules with exceptions before them. Where: "first", "last", an operation, a layer or a pattern of layers, or a predicate of the call."""
    for where, rule in reversed(pairs(over)):
        made = _rule(rule, options)
        rules = replace(rules, zeros=rules.zeros or not isinstance(rule, str) or rule in TO_ZEROS)
        if where == LAST:
            rules = replace(rules, over=((_weighted, at_last(made, rules.of)),))
        else:
            rules = replace(rules, over=((_chosen(where, made), made), *rules.over))
    return rules


def at_last(rule: Rule, otherwise: Callable[[Call], Rule]) -> Rule:
    """A rule for the last weights before the target, which are known when relevance flows back; `otherwise` finds that of all others."""

    def either(c: Call) -> Tensor:
        others = otherwise(c)(c)
        this = rule(c)
        return c.keep(c.output(), lambda g: (g, None) if c.last else (None, g), this, others, conserves=True)

    return either


def check_places(q: Question, over: Any) -> None:
    """Refuses the name of a layer that the model does not have."""
    names = [i.name for i in q.model.layers()]
    for where, _ in pairs(over):
        if isinstance(where, str) and where not in (FIRST, LAST) and where not in KIND and not any(_within(n, where) for n in names):
            raise UnknownName("layer", where, names, 'Exceptions are given to "first", "last", an operation such as "conv2d", or a layer.')


def input_range(q: Question) -> tuple[Any, Any]:
    """The valid range of the input, where the model's preprocessing tells it; else (None, None)."""
    mean, std = (getattr(q.model.preprocess, n, None) for n in ("mean", "std"))
    if mean is None or std is None or q.places:
        return None, None
    return (0 - mean) / std, (1 - mean) / std


def looks_at_pictures(q: Question) -> bool:
    """Whether the question is about pixels."""
    return not q.places and all(t.ndim == 4 for t in leaves(q.point))


def _rule(given: Any, options: Options) -> Rule:
    if callable(given):
        return given
    if given not in RULES:
        raise UnknownName("rule", str(given), RULES, "A function of the call will do as well.")
    return RULES[given](options)


def _weighted(c: Call) -> bool:
    return c.kind == "weights"


def _chosen(where: Any, rule: Rule) -> Chosen:
    """Whether an exception is meant for a call. Names choose operations with weights, and a BatchNorm by itself where relevance passes through."""
    if callable(where):
        return where
    kinds = ("weights", "norm") if rule is passing else ("weights",)
    if where == FIRST:
        return lambda c: c.kind == "weights" and c.first
    return lambda c: c.kind in kinds and (c.name == where or _within(c.module, where))


def _within(name: str, where: str) -> bool:
    """Whether a layer is the one that is named, lies inside it, or fits the pattern."""
    return name == where or name.startswith(f"{where}.") or fnmatch.fnmatchcase(name, where)
