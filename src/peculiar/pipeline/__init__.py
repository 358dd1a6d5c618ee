"""The stages of `dvc.yaml`, in reading order: fetch, observe, search, train, evaluate, promote."""
