"""What lies on the daemon's disk: frames by content, a folder a job, files of others, and what is dropped when."""
