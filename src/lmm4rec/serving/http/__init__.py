"""The HTTP service: FastAPI is imported here and nowhere else."""
