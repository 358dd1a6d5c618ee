"""Studies on stand-in galaxies: ablation, audits, conditions, search, coverage."""
