"""Searches for the smallest change that would have changed the answer. To add one: write one file, add one line here."""

from .counterfactual_search import Counterfactuals as Counterfactuals, CounterfactualSearch as CounterfactualSearch
