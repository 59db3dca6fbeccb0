"""Rules that change what flows back through rectifiers, on whatever operation computes them."""

import torch
from torch import Tensor

from ..core._kept import vjp
from ..core.errors import NotApplicable
from ..core.question import Question
from ..core.rules import Call, Rule, Rules
from ..core.tree import Tree

RECTIFIERS = frozenset(["relu", "relu6", "hardtanh", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish", "softplus", "threshold", "clamp", "clamp_min"])
"""Activations that let the positive through and hold the negative back."""


def rectifies(c: Call) -> bool:
    """Whether a call is a rectifier; bounded ones count where their lower bound is zero."""
    if c.name not in RECTIFIERS:
        return False
    if c.name in ("hardtanh", "clamp", "clamp_min"):
        low = c.kwargs.get("min_val", c.kwargs.get("min", c.args[1] if len(c.args) > 1 else -1.0))
        return isinstance(low, (int, float)) and low == 0
    return True


def deconvnet(c: Call) -> Tensor:
    """Only what is positive flows back, whatever came forward."""
    return c.keep(c.output(), lambda g: (g.clamp(min=0),), c.args[0])


def guided(c: Call) -> Tensor:
    """Only what is positive flows back, and only where the activation let something through."""
    x = c.args[0].detach()
    return c.keep(c.output(), lambda g: vjp(c.run, [x], g.clamp(min=0)), c.args[0])


def beta_smooth(beta: float) -> Rule:
    """The derivative of a softplus of sharpness `beta` in the place of the rectifier's (Dombrowski et al. 2019, arXiv:1906.07983, section 5)."""

    def rule(c: Call) -> Tensor:
        x = c.args[0].detach()
        return c.keep(c.output(), lambda g: (g * torch.sigmoid(beta * x),), c.args[0])

    return rule


def through_rectifiers(q: Question, rule: Rule, name: str) -> tuple[Tree, str]:
    """The gradient at the point with `rule` on every rectifier, and a sentence on how many there were."""
    ruled = q.with_rules(Rules(over=((rectifies, rule),), counted=False, fold=False))
    g = ruled.grad()
    changed = ruled.engine.account.changed
    if not changed:
        between = f"{q.model.name} has none between {q.at or 'the input'} and the target"
        raise NotApplicable(f"{name} changes what flows back through rectifiers (ReLU, ReLU6, GELU, ...); {between}, so that it is the plain gradient. Use saliency.")
    return g, f"{changed} rectifying operations changed"
