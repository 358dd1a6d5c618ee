"""The science that stands on the package: run as `python -m experiments.ROOM.NAME`."""
