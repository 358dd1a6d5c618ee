"""Search for a network with Optuna, on one machine or many."""
