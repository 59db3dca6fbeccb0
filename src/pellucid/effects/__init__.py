"""Effects of columns over a whole table. To add one: write one file, add one line here."""

from .partial_dependence import PartialDependence as PartialDependence
