"""Evidence: which checks tell a good explanation from a bad one. To add one: write one file, add one line here."""

from .class_dependence import ClassDependence as ClassDependence
from .completeness_gap import CompletenessGap as CompletenessGap
from .comprehensiveness import Comprehensiveness as Comprehensiveness
from .conservation import Conservation as Conservation
from .convergence import Convergence as Convergence
from .deletion import Deletion as Deletion
from .faithfulness_correlation import FaithfulnessCorrelation as FaithfulnessCorrelation
from .faithfulness_estimate import FaithfulnessEstimate as FaithfulnessEstimate
from .infidelity import Infidelity as Infidelity
from .insertion import Insertion as Insertion
from .irof import Irof as Irof
from .linear_datamodeling_score import LinearDatamodelingScore as LinearDatamodelingScore
from .local_fit import LocalFit as LocalFit
from .mask_fidelity import MaskFidelity as MaskFidelity
from .monotonicity import Monotonicity as Monotonicity
from .monotonicity_correlation import MonotonicityCorrelation as MonotonicityCorrelation
from .mu_fidelity import MuFidelity as MuFidelity
from .pixel_flipping import PixelFlipping as PixelFlipping
from .region_perturbation import RegionPerturbation as RegionPerturbation
from .road import Road as Road
from .sensitivity_n import SensitivityN as SensitivityN
from .sparseness import Sparseness as Sparseness
from .stability import Stability as Stability
from .sufficiency import Sufficiency as Sufficiency
