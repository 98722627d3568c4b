"""What is computed where: the queue, a process a device, one attempt at a job."""
