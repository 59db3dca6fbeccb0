"""Effects of columns over a whole table. To add one: write one file, add one line here."""

import importlib
import sys
from types import ModuleType
from typing import Any

from .accumulated_local_effects import AccumulatedLocalEffects as AccumulatedLocalEffects
from .break_down import BreakDown as BreakDown
from .ceteris_paribus import CeterisParibus as CeterisParibus
from .h_statistic import HStatistic as HStatistic
from .partial_dependence import PartialDependence as PartialDependence


class Door(ModuleType):
    """`pel.effects(...)` is a function whose name this package bears: once the package is loaded, it stands in the function's place, and is called like it."""

    def __call__(self, *given: Any, **asked: Any) -> Any:
        return importlib.import_module("pellucid.run.effects").effects(*given, **asked)


sys.modules[__name__].__class__ = Door
