"""The stages of `dvc.yaml`, in order: fetch, observe, search, train, evaluate, promote."""
