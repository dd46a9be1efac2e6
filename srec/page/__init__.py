"""A kept run as one HTML page that needs nothing else."""
