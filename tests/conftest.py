"""What pytest needs to know of this folder: stand-ins and scripts run inside other programs are no test modules."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.farm_floor import farm  # noqa: F401 - a fixture, asked for by name

# The same examples everywhere and few of them; --hypothesis-profile=long tries new ones, and as many as it claims.
settings.register_profile("short", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=3000, deadline=None, database=None,
                          suppress_health_check=list(HealthCheck))  # fmt: skip
settings.load_profile("short")

collect_ignore_glob = ["fakes/*", "blender_scripts/*"]
