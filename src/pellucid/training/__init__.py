"""Training with explanations: penalties and networks for your own loop. To add one: write one file, add one line here."""

from .attribution_priors import gini_sparsity as gini_sparsity, graph_smoothness as graph_smoothness, total_variation as total_variation
from .deep_prior import deep_attribution_prior as deep_attribution_prior
from .dual_net import Ranking as Ranking, rank_features as rank_features
from .expected_gradients import expected_gradients as expected_gradients
from .expo import expo_1d_fidelity as expo_1d_fidelity, expo_fidelity as expo_fidelity, expo_stability as expo_stability
from .lfi_cam import LFICAM as LFICAM, Attended as Attended
from .masking_model import fit_masking_model as fit_masking_model
