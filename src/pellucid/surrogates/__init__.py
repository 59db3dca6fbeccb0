"""Simple models in the place of a large one: trees, lines, rules. To add one: write one file, add one line here."""

from .tree_surrogate import TreeSurrogate as TreeSurrogate
