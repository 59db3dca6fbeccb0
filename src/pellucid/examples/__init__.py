"""Rows that stand for others: nearest ones, prototypes, criticisms. To add one: write one file, add one line here."""

from .mmd_critic import MmdCritic as MmdCritic
from .nearest_examples import NearestExamples as NearestExamples
from .proto_dash import ProtoDash as ProtoDash
