"""Simple models in the place of a large one: trees, lines, rules. To add one: write one file, add one line here."""

from .anchors import Anchors as Anchors
from .interpretable_model import InterpretableModel as InterpretableModel
from .linear_surrogate import LinearSurrogate as LinearSurrogate
from .rule_surrogate import RuleSurrogate as RuleSurrogate
from .text_weights import TextWeights as TextWeights
from .tree_surrogate import TreeSurrogate as TreeSurrogate
