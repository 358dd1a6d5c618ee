"""The full null tests, beyond those of the stage `nulls`."""
