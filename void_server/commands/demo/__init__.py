"""The demo: a shot that the tool makes itself, with a known answer."""
