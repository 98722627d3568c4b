"""The folder a shot comes out in: finished frames, what was noted of each, the manifest that closes it."""
