"""The half of the shots' generator that runs inside Blender: stages a description, and renders it."""
