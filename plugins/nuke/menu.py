"""Read by Nuke with a window: the menu. Whatever goes wrong here, Nuke starts."""

try:
    from void_nuke import host

    host.install()
except Exception as error:  # noqa: BLE001 - an error in a menu.py stops Nuke from starting, so none may leave here
    import sys

    sys.stderr.write(f"VOID is not available in this session: {type(error).__name__}: {error}\n")
