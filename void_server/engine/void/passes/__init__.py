"""From pictures and a prompt to pictures: windows in time, noise, steps, the second pass."""
