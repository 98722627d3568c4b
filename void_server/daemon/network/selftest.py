"""Proves, each time a daemon with keys starts, that a stranger does not get in.

What comes in: an address, the daemon's public key. What goes out: nothing, or a refusal
to start. It knows sockets and keys, nothing else.

Source of the need: CURVE without a ZAP domain, or a domain that is not enforced, admits everybody who knows the
daemon's public key, and says nothing about it; which half a libzmq lacks is seen by trying.
"""

from __future__ import annotations

import re

import zmq
from zmq.utils.monitor import parse_monitor_message

from void_server.wire.errors import InternalError

_PATIENCE_S = 10.0


def check_stranger_is_refused(address: str, daemon_public: str) -> None:
    """Knock with a key made just now. Raises InternalError unless the door stays shut. Blocks; milliseconds."""
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.setsockopt(zmq.CURVE_PUBLICKEY, public)
        stranger.setsockopt(zmq.CURVE_SECRETKEY, secret)
        stranger.setsockopt(zmq.CURVE_SERVERKEY, daemon_public.encode())
        monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        try:
            # A wildcard address can be bound but not called.
            stranger.connect(re.sub(r"//(0\.0\.0\.0|\*|\[::\]):", "//127.0.0.1:", address))
            if not monitor.poll(int(1000 * _PATIENCE_S)):
                raise InternalError("The self-test of the keys had no answer.", "Start the daemon again.")
            event = parse_monitor_message(monitor.recv_multipart())["event"]
        finally:
            stranger.disable_monitor()
            monitor.close(0)
    if event != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        raise InternalError(
            f"A stranger was let in during the self-test (libzmq {zmq.zmq_version()}).",
            "Do not use this machine's pyzmq over a network; install another version.",
        )
