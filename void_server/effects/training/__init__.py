"""How the predictor in this wheel was made: pictures with and without an object, a network, one command.

Nothing here is imported when a shot is worked on; it needs the extra `[training]` and, to be done in half an hour, a
GPU.
"""
