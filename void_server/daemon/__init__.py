"""Accepts shots, keeps them, hands them to workers. Never touches a pixel; `worker.py` alone imports the pipeline."""
