"""Evidence: which checks tell a good explanation from a bad one. To add one: write one file, add one line here."""

from .class_dependence import ClassDependence as ClassDependence
from .completeness_gap import CompletenessGap as CompletenessGap
from .conservation import Conservation as Conservation
from .convergence import Convergence as Convergence
from .local_fit import LocalFit as LocalFit
from .mask_fidelity import MaskFidelity as MaskFidelity
from .sparseness import Sparseness as Sparseness
from .stability import Stability as Stability
