"""Train one network on one observed dataset, and predict its splits."""
