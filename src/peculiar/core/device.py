"""Where tensors are computed: a GPU where there is one."""

import torch


def best_device() -> torch.device:
    """The GPU of this process when there is one, else the CPU."""
    if torch.cuda.is_available():  # with its number: in another thread, "cuda" is the first GPU
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
