"""An Optuna study over networks, on one machine or many."""
