"""Pictures: read, prepared for a model, and turned back into what people see."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..core.errors import UnknownName, UsageError

MAX_PIXELS = 100_000_000
SAMPLES = {
    "coffee": ("skimage", "coffee"), "chelsea": ("skimage", "chelsea"), "rocket": ("skimage", "rocket"), "astronaut": ("skimage", "astronaut"),
    "china": ("sklearn", "china.jpg"), "flower": ("sklearn", "flower.jpg"),
}


def samples() -> list[str]:
    """The photos that come with the dependencies, as `sample:NAME`."""
    return list(SAMPLES)


def open_image(source: Any) -> Image.Image:
    """A picture from a path, `sample:NAME`, an array of bytes or a PIL image, upright and in RGB."""
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    if isinstance(source, np.ndarray):
        return Image.fromarray(source).convert("RGB")
    if isinstance(source, str) and source.startswith("sample:"):
        return _sample(source.removeprefix("sample:"))
    return _read(Path(source))


def _read(path: Path) -> Image.Image:
    if not path.exists():
        raise UsageError(f"There is no file {str(path)!r}. Photos that come with Pellucid: {', '.join('sample:' + s for s in SAMPLES)}.")
    if path.is_dir():
        raise UsageError(f"An input needs to be one picture; {str(path)!r} is a folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UsageError(f"A picture needs at most {MAX_PIXELS // 1_000_000} million pixels; {path.name} has {width} x {height}. Scale it down first.")
                return ImageOps.exif_transpose(image).convert("RGB")
    except Image.DecompressionBombError:
        raise UsageError(f"A picture needs at most {MAX_PIXELS // 1_000_000} million pixels; {path.name} has more. Scale it down first.") from None
    except UnidentifiedImageError:
        raise UsageError(f"{path.name} is not a picture that can be read (PNG, JPEG, WebP, BMP, TIFF, GIF).") from None
    except (OSError, SyntaxError, ValueError) as e:
        if isinstance(e, UsageError):
            raise
        raise UsageError(f"{path.name} cannot be read as a picture: {e}.") from None


def _sample(name: str) -> Image.Image:
    if name not in SAMPLES:
        raise UnknownName("sample", name, SAMPLES)
    package, key = SAMPLES[name]
    try:
        if package == "skimage":
            import skimage.data

            array = getattr(skimage.data, key)()
        else:
            from sklearn.datasets import load_sample_image

            array = load_sample_image(key)
    except ModuleNotFoundError as missing:
        raise UsageError(f"sample:{name} needs the package {missing.name!r}. Install the extra: pip install 'pellucid[demo]'.") from None
    return Image.fromarray(array).convert("RGB")


class ImagePreprocess:
    """Centre crop, resize (`size` None: the picture as it is), and scale: pixels in [0, 1], less `mean`, over `std`."""

    def __init__(self, size: int | None, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.size = size
        self.mean, self.std = (torch.as_tensor(v, dtype=torch.float32).reshape(-1, 1, 1) for v in (mean, std))

    def __repr__(self) -> str:
        return f"ImagePreprocess({self.size})"

    def __call__(self, image: Any) -> Tensor:
        picture = open_image(image)
        if self.size is not None:
            picture = ImageOps.fit(picture, (self.size, self.size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return ((pixels - self.mean) / self.std)[None]

    def inverse(self, x: Tensor) -> Tensor:
        """(B, C, H, W) inputs as (B, H, W, 3) bytes."""
        pixels = x.detach().float().cpu() * self.std + self.mean
        return (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous()
