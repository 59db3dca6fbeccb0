"""DAPr: a second network says, from what is known about each feature, how much it should count."""

from collections.abc import Callable

from torch import Tensor

from ..core.errors import UsageError


def deep_attribution_prior(attributions: Tensor, prior: Callable[[Tensor], Tensor], about: Tensor) -> Tensor:
    """How far is what the features did from what is expected of such features? A penalty that trains model and prior together.

    How: mean over rows and features of | |phi_i| - prior(about_i) |, where `about` holds one row of meta-features for each
    feature: (P, M). The sum of the task's loss and this penalty is minimised over the weights of both networks; `phi` are the
    model's expected gradients. Afterwards prior(about) explains why features count, and speaks also of features never measured.
    Units: those of the attributions.
    Misleads when: the meta-features say nothing of importance: the penalty then only makes all attributions alike and small.
    Source: Weinberger, Janizek, Lee 2020, arXiv:1912.10065.
    """
    expected = prior(about)
    if expected.numel() != attributions[0].numel():
        raise UsageError(
            f"A deep attribution prior needs one number for each of the {attributions[0].numel()} features; it gave {tuple(expected.shape)} for meta-features of shape {tuple(about.shape)}."
        )
    return (attributions.abs().flatten(1) - expected.reshape(1, -1)).abs().mean()
