"""Null tests: a network must not change with the renderer, the resampler or the padding."""
