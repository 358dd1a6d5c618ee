"""The studies behind docs/results: run as `python -m experiments.FOLDER.NAME`."""
