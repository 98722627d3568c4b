"""What hosts import: errors, the words of a shot, messages, and the client (`void_server.wire.client.Client`).

Standard library, pyzmq and msgpack only, Python 3.9 and later. This file imports nothing, so that a module that needs
an error alone does not load a socket library.
"""
