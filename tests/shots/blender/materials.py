"""Materials in Blender: surfaces that are pictures, and the few that are not.

What comes in: a surface, or numbers. What goes out: `bpy` materials. It places nothing.
"""

from __future__ import annotations

import bpy
import numpy as np

from tests.shots import textures


def textured(word: str, seed: int, *, size: float = 1.0) -> bpy.types.Material:
    """A surface laid on from three sides in the object's own metres, enlarged by `size`."""
    surface = textures.make(word, np.random.default_rng(seed))
    material, tree, shader = _new(f"{word}{seed}")
    place = tree.nodes.new("ShaderNodeTexCoord")
    scale = tree.nodes.new("ShaderNodeMapping")
    scale.inputs["Scale"].default_value = (1 / (surface.metres * size),) * 3
    tree.links.new(place.outputs["Object"], scale.inputs["Vector"])
    colour = _picture(tree, scale, f"{material.name}.colour", surface.colour, data=False)
    tree.links.new(colour.outputs["Color"], shader.inputs["Base Color"])
    rough = _picture(tree, scale, f"{material.name}.rough", surface.roughness, data=True)
    tree.links.new(rough.outputs["Color"], shader.inputs["Roughness"])
    height = _picture(tree, scale, f"{material.name}.height", surface.height, data=True)
    bump = tree.nodes.new("ShaderNodeBump")
    bump.inputs["Distance"].default_value = surface.bump * size
    tree.links.new(height.outputs["Color"], bump.inputs["Height"])
    tree.links.new(bump.outputs["Normal"], shader.inputs["Normal"])
    return material


def mirror() -> bpy.types.Material:
    material, _, shader = _new("mirror")
    shader.inputs["Base Color"].default_value = (0.86, 0.88, 0.87, 1)
    shader.inputs["Metallic"].default_value = 1
    shader.inputs["Roughness"].default_value = 0.01
    return material


def water() -> bpy.types.Material:
    material, _, shader = _new("water")
    shader.inputs["Base Color"].default_value = (0.012, 0.03, 0.03, 1)
    shader.inputs["Roughness"].default_value = 0.02
    shader.inputs["IOR"].default_value = 1.33
    return material


def glass(tint: tuple[float, float, float]) -> bpy.types.Material:
    material, tree, shader = _new("glass")
    shader.inputs["Base Color"].default_value = (*tint, 1)
    shader.inputs["Roughness"].default_value = 0.0
    shader.inputs["IOR"].default_value = 1.45
    shader.inputs["Transmission Weight"].default_value = 1
    # Light goes straight through for shadows: caustics would need a thousand samples.
    path, mix = tree.nodes.new("ShaderNodeLightPath"), tree.nodes.new("ShaderNodeMixShader")
    through = tree.nodes.new("ShaderNodeBsdfTransparent")
    through.inputs["Color"].default_value = (*(0.35 + 0.5 * t for t in tint), 1)
    tree.links.new(path.outputs["Is Shadow Ray"], mix.inputs[0])
    tree.links.new(shader.outputs[0], mix.inputs[1])
    tree.links.new(through.outputs[0], mix.inputs[2])
    tree.links.new(mix.outputs[0], tree.nodes["Material Output"].inputs["Surface"])
    return material


def plain(name: str, colour: tuple[float, float, float], roughness: float, metallic: float = 0) -> bpy.types.Material:
    material, _, shader = _new(name)
    shader.inputs["Base Color"].default_value = (*colour, 1)
    shader.inputs["Roughness"].default_value = roughness
    shader.inputs["Metallic"].default_value = metallic
    return material


def glowing(colour: tuple[float, float, float], strength: float) -> bpy.types.Material:
    material, _, shader = _new("glow")
    shader.inputs["Emission Color"].default_value = (*colour, 1)
    shader.inputs["Emission Strength"].default_value = strength
    return material


def _new(name: str):
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    return material, material.node_tree, material.node_tree.nodes["Principled BSDF"]


def _picture(tree, vector, name: str, pixels: np.ndarray, *, data: bool):
    rgba = np.ones((*pixels.shape[:2], 4), np.float32)
    rgba[..., :3] = pixels if pixels.ndim == 3 else pixels[..., None]
    image = bpy.data.images.new(name, rgba.shape[1], rgba.shape[0], float_buffer=data, is_data=data)
    image.pixels.foreach_set(rgba.ravel())
    image.update()
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image, node.projection, node.projection_blend = image, "BOX", 0.15
    tree.links.new(vector.outputs["Vector"], node.inputs["Vector"])
    return node
