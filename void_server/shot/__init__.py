"""One shot on disk: checked, read, marked, and written back. Knows no job, no socket and no command."""
