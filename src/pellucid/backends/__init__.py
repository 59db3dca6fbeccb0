"""Where models come from: `wrap` what you hold, `load` what has a name."""

from .load import load as load, names as names
from .wrap import wrap as wrap
