"""Attribution methods. To add one: write one file, add one line here."""

from .activations import Activations as Activations
from .beta_smooth import BetaSmooth as BetaSmooth
from .blur_integrated_gradients import BlurIntegratedGradients as BlurIntegratedGradients
from .conductance import Conductance as Conductance
from .deconvnet import Deconvnet as Deconvnet
from .deep_lift import DeepLift as DeepLift
from .expected_gradients import ExpectedGradients as ExpectedGradients
from .full_grad import FullGrad as FullGrad
from .grad_cam import GradCAM as GradCAM
from .guided_backprop import GuidedBackprop as GuidedBackprop
from .guided_integrated_gradients import GuidedIntegratedGradients as GuidedIntegratedGradients
from .input_x_gradient import InputXGradient as InputXGradient
from .integrated_gradients import IntegratedGradients as IntegratedGradients
from .internal_influence import InternalInfluence as InternalInfluence
from .occlusion import Occlusion as Occlusion
from .saliency import Saliency as Saliency
from .smooth_grad import SmoothGrad as SmoothGrad
