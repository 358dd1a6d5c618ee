"""Where tensors are computed: a GPU where there is one."""

import torch


def best_device() -> torch.device:
    """The GPU of this process when there is one, else the CPU."""
    if torch.cuda.is_available():  # numbered, since another thread's own is the first
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
