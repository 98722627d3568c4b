"""What the daemon knows and must not forget: one SQLite file, and its rebuilding from the folders."""
