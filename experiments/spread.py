"""Mean and standard deviation over seeds, as text."""

from collections.abc import Sequence

import numpy as np


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and deviation of several values; one alone has none."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
