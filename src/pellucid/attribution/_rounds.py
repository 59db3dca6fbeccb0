"""Spending a budget: at once, or in rounds that end row by row where the error is small enough."""

import dataclasses
from collections.abc import Callable

import torch

from ..core.game import Game
from ._game_method import Played
from ._shapley import Estimate

GROWTH = 1.6
"""How much larger the design of every round is than that before."""


def spent(game: Game, budget: int, tol: float, first: int, solve: Callable[[Game, int], Estimate]) -> Played:
    """`solve(game, coalitions)` with the whole budget, or, with `tol`, with ever larger parts of it until each row's largest error is below tol |v(N) - v(0)|.

    Designs are nested and games remember, so that a round pays only for what it adds. Rows that are done are asked no more.
    """
    nobody, everybody = game.ends()
    change = (everybody - nobody).abs()
    took = torch.zeros(game.size, dtype=torch.long)
    values = error = torch.zeros(0, 0)
    rows, coalitions = torch.arange(game.size), min(first, budget) if tol else budget
    while True:
        found = solve(game, coalitions)
        if not len(values):
            values, error = torch.zeros_like(found.values), torch.zeros_like(found.error)
        values[rows], error[rows], took[rows] = found.values, found.error, coalitions
        open_ = found.error.amax(1) > tol * change[rows]
        if coalitions >= budget or not open_.any():
            break
        if not open_.all():
            game, rows = game.take(open_.nonzero()[:, 0]), rows[open_]
        coalitions = min(int(coalitions * GROWTH) + 2, budget)
    return Played(values, error, notes=(_told(took, tol, (error.amax(1) <= tol * change)),))


def noted(played: Played, note: str) -> Played:
    """The same with a note more."""
    return dataclasses.replace(played, notes=(*played.notes, note))


def _told(took: torch.Tensor, tol: float, met: torch.Tensor) -> str:
    low, high = int(took.min()), int(took.max())
    words = f"at most {high:,} coalitions a row" if low == high else f"between {low:,} and {high:,} coalitions a row"
    return words + (f"; errors are below {tol:g} of the change in {int(met.sum())} of {len(met)} rows" if tol else "")
