"""How `void_server/effects/predictor.onnx` was made: pictures with and without an object, a network, one command.

Run from a checkout; in no wheel. Nothing here is imported when a shot is worked on. It needs the extra `[training]`
and, to be done in half an hour, a GPU.
"""
