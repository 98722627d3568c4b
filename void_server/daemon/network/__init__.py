"""Who is at the other end of the socket: connections, keys, messages in and out, a record of who did what."""
