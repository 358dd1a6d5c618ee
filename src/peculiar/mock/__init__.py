"""What a survey would see of a simulated galaxy: distance, resampling, sky, seeing, noise."""
