# SPDX-License-Identifier: GPL-3.0-or-later
"""For those who work in the compositor: a node group that lays clean over plate by `change`.

What comes in: a scene, the record of a finished run. What goes out: nodes in the scene's compositor, not linked to its
output: where they go is the artist's. It renders nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import bpy

from .results import Record

GROUP = "VOID Composite"


def group() -> Any:
    """The node group, made when first needed: Plate, Clean and Change in, Image out."""
    tree = bpy.data.node_groups.get(GROUP)
    if tree is not None:
        return tree
    tree = bpy.data.node_groups.new(GROUP, "CompositorNodeTree")
    interface = tree.interface
    interface.new_socket("Plate", in_out="INPUT", socket_type="NodeSocketColor")
    interface.new_socket("Clean", in_out="INPUT", socket_type="NodeSocketColor")
    change = interface.new_socket("Change", in_out="INPUT", socket_type="NodeSocketFloat")
    change.default_value, change.min_value, change.max_value = 1.0, 0.0, 1.0
    interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    entry, exit_ = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    mix = tree.nodes.new("ShaderNodeMix")  # the one mix node that 4.5 and 5.x share
    mix.data_type, mix.blend_type, mix.clamp_factor = "RGBA", "MIX", True
    entry.location, exit_.location = (-300, 0), (300, 0)
    sockets = {s.identifier: s for s in mix.inputs}
    tree.links.new(entry.outputs["Plate"], sockets["A_Color"])
    tree.links.new(entry.outputs["Clean"], sockets["B_Color"])
    tree.links.new(entry.outputs["Change"], sockets["Factor_Float"])
    tree.links.new({s.identifier: s for s in mix.outputs}["Result_Color"], exit_.inputs["Image"])
    return tree


def add(scene: Any, record: Record) -> Any:
    """Add plate and clean as image nodes and the group between them; returns the group's node.

    Change is left at 1: clean frames already are the composite. Lower it, or plug a matte of your own into it.
    """
    tree = _tree(scene)
    node = tree.nodes.new("CompositorNodeGroup")
    node.node_tree = group()
    node.label = f"{record.strip} v{record.version:03d}"
    frames = range(record.first, record.end)
    plate = [Path(record.files.get("plate", {}).get(frame, "")) for frame in frames]
    clean = [record.frame("clean", frame) for frame in frames]
    for row, (socket, paths) in enumerate((("Plate", plate), ("Clean", clean))):
        number = _first_number(paths)
        if number is None:
            continue  # rendered and gone, or in no order that an image node can follow: the artist plugs it in
        image = bpy.data.images.load(str(paths[0]), check_existing=True)
        image.source = "SEQUENCE"
        image.colorspace_settings.name = record.space
        reader = tree.nodes.new("CompositorNodeImage")
        reader.image = image
        reader.frame_start, reader.frame_duration, reader.frame_offset = record.first, len(frames), number - 1
        reader.location = (-400, -300 * row)
        tree.links.new(reader.outputs["Image"], node.inputs[socket])
    return node


def _first_number(paths: list[Path]) -> int | None:
    """Number in the name of the first file, where all are there and each counts one up; else None."""
    numbers = [re.search(r"(\d+)\D*$", path.name) for path in paths]
    if not all(numbers) or not paths[0].is_file():
        return None
    first = int(numbers[0][1])
    return first if [int(n[1]) for n in numbers] == list(range(first, first + len(paths))) else None


def _tree(scene: Any) -> Any:
    if hasattr(scene, "compositing_node_group"):
        if scene.compositing_node_group is None:
            scene.compositing_node_group = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
        return scene.compositing_node_group
    scene.use_nodes = True
    return scene.node_tree
