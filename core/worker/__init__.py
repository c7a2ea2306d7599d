"""What runs inside a model's process, and nowhere else."""
