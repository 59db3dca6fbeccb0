"""Effects of columns over a whole table. To add one: write one file, add one line here."""

from .accumulated_local_effects import AccumulatedLocalEffects as AccumulatedLocalEffects
from .partial_dependence import PartialDependence as PartialDependence
