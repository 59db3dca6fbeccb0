"""A small network that says which part of a picture to look at, from the picture or from what another network's layers hold of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import UsageError


class MaskNetwork(nn.Module):
    """Masks (B, 1, h, w) in [0, 1] from the values of `layers`, (B, C, h, w) each; no layers: from the picture itself.

    Each value is scaled to mean 0 and variance 1 a row, narrowed to `width` channels and enlarged to the finest grid; two convolutions make the mask.
    """

    def __init__(self, layers: Sequence[str], channels: Sequence[int], width: int = 16) -> None:
        super().__init__()
        self.layers, self.channels, self.width = tuple(layers), tuple(channels), width
        made = lambda *sizes, **more: nn.utils.skip_init(nn.Conv2d, *sizes, **more)  # noqa: E731 - weights come from a generator or a file
        self.narrow = nn.ModuleList(made(c, width, 1) for c in self.channels)
        self.mix = made(width * len(self.channels), width, 3, padding=1)
        self.out = made(width, 1, 3, padding=1)

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        if len(values) != len(self.channels) or any(v.ndim != 4 or v.shape[1] != c for v, c in zip(values, self.channels, strict=True)):
            raise UsageError(f"This mask network needs pictures of {', '.join(map(str, self.channels))} channels; got {[tuple(v.shape) for v in values]}. Fit one for this model.")
        finest = max((tuple(v.shape[2:]) for v in values), key=lambda s: s[0] * s[1])
        wide = [F.interpolate(n(F.group_norm(v, 1)).relu(), size=finest, mode="bilinear", align_corners=False) for n, v in zip(self.narrow, values, strict=True)]
        return self.out(self.mix(torch.cat(wide, 1)).relu()).sigmoid()

    def save(self, path: str | Path) -> Path:
        """Writes the network to a .safetensors file."""
        path = Path(path)
        save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, path, metadata={"mask network": json.dumps([self.layers, self.channels, self.width])})
        return path

    @classmethod
    def load(cls, path: str | Path) -> "MaskNetwork":
        """The network that `save` wrote; nothing in the file is run."""
        try:
            with safe_open(str(path), framework="pt") as f:
                layers, channels, width = json.loads((f.metadata() or {})["mask network"])
                net = cls(layers, channels, width)
                net.load_state_dict({k: f.get_tensor(k) for k in f.keys()})  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as e:
            raise UsageError(f"A mask network needs a file that MaskNetwork.save wrote; {str(path)!r} is none: {str(e).splitlines()[0] if str(e) else type(e).__name__}.") from None
        return net.eval()
