"""Relevance by rules, and the account of it: what reached the place, what operations kept on the way, and what is missing."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core._kept import safe
from ..core._memory import Memory
from ..core.procedure import Values, sum_of
from ..core.question import Question
from ..core.rules import Rules
from ..core.tree import Tree, each
from ._relevance import NOBODY

MOST = 3
"""Operations that a note names."""
NOTHING = 1e-3
"""A share that is not worth a word."""


@dataclass(frozen=True)
class Shares:
    """Of each row's answer: what operations kept, and what neither they nor the values account for."""

    absorbed: Tensor
    unaccounted: Tensor
    words: tuple[str, ...]


def relevance(q: Question, rules: Rules, unit: bool = False) -> Values:
    """Relevance at the place: point times the gradient by `rules`, with its account. With `unit`, as shares of the answer."""
    ruled = q.with_rules(replace(rules, memory=Memory()))  # weights may be written on between two questions in ways that leave no sign
    g = ruled.grad()
    values = each(lambda z, s: (safe(z) if rules.zeros else z) * s, ruled.point, g)
    f = q.target_values()
    told = shares(values, f, ruled) if rules.counted else None
    if unit:
        values = each(lambda v: v / safe(spread(f, v)), values)
    words = (*(told.words if told else ()), *([] if ruled.engine.account.changed else [PLAIN]))
    return Values(values, notes=words, absorbed=told.absorbed if told else None, unaccounted=told.unaccounted if told else None)


PLAIN = "no operation got another gradient than its own: these values are point x gradient"


def spread(f: Tensor, like: Tensor) -> Tensor:
    """(B,) numbers in line with the axes of `like`."""
    return f.to(like).reshape(-1, *[1] * (like.ndim - 1))


def shares(values: Tree, f: Tensor, ruled: Question) -> Shares:
    """The account of values that a ruled question gave for the answers `f`."""
    account, whole = ruled.engine.account, f.detach().cpu().double()
    entered = ruled.absorbed()
    kept = torch.stack([torch.zeros_like(whole), *(amount.detach().to(whole) for amount in entered.values())])
    total = float(whole.abs().sum())
    part = dict(zip(entered, (kept[1:] @ whole.sign() / (total or torch.inf)).tolist(), strict=True))
    absorbed = kept.sum(0)
    rest = whole - sum_of(values).cpu().double() - absorbed
    by_row = account.by_row and not _mixed(rest, whole)
    if not by_row:
        absorbed, rest, whole = (t.mean().expand(len(t)) for t in (absorbed, rest, whole))
    words = [*_told(part, ruled.at if ruled.engine.slots else None)]
    if not by_row:
        words.append("what was kept is known for all rows together: some operations do not have their rows on the first axis")
    return Shares(absorbed / safe(whole), rest / safe(whole), tuple(words))


def _mixed(rest: Tensor, whole: Tensor) -> bool:
    """Whether rows miss what other rows have too much of: an axis as long as the batch was taken for it."""
    return len(rest) > 1 and float(rest.sum().abs()) < 1e-3 * float(rest.abs().sum()) and float(rest.abs().sum()) > 1e-3 * float(whole.abs().sum())


def _told(part: dict[tuple[str, str], float], at: str | None) -> list[str]:
    """Who kept which part of the answer, in words."""
    lost = sum(v for (_, name), v in part.items() if name == NOBODY)
    bent = any(name in ("softmax", "log_softmax") and abs(v) > NOTHING for (_, name), v in part.items())
    who = f"biases, shifts{', softmaxes' if bent else ''} and {f'values that do not come from {at}' if at else 'constants'}"
    words = [f"{who} kept {percent(sum(part.values()) - lost)} of the answer{_most(part)}"]
    if abs(lost) > NOTHING:
        words.append(f"{percent(lost)} of the answer arrived where no input takes part, and stayed there")
    return words


def _most(part: dict[tuple[str, str], float]) -> str:
    """The modules, or operations outside of modules, that kept most."""
    places: dict[str, float] = {}
    for (module, name), share in part.items():
        if name != NOBODY:
            places[module or name] = places.get(module or name, 0.0) + share
    top = sorted((k for k in places if abs(places[k]) > NOTHING), key=lambda k: -abs(places[k]))[:MOST]
    return f"; most: {', '.join(f'{k} ({percent(places[k])})' for k in top)}" if top else ""


def percent(share: float) -> str:
    """A share in words."""
    return "none" if abs(share) < 1e-9 else "less than 0.1 %" if abs(share) < NOTHING else f"{100 * share:.3g} %"
