"""Effects of columns over a whole table. To add one: write one file, add one line here."""

from .accumulated_local_effects import AccumulatedLocalEffects as AccumulatedLocalEffects
from .break_down import BreakDown as BreakDown
from .ceteris_paribus import CeterisParibus as CeterisParibus
from .h_statistic import HStatistic as HStatistic
from .partial_dependence import PartialDependence as PartialDependence
