"""What a training leaves: its MLflow run, its files, the range of its images."""
