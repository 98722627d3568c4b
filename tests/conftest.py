"""What pytest needs to know of this folder: stand-ins and scripts run inside other programs are no test modules."""

from __future__ import annotations

from tests.farm_floor import farm  # noqa: F401 - a fixture, asked for by name

collect_ignore_glob = ["fakes/*", "blender_scripts/*"]
