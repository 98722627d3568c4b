"""Putting the tool elsewhere: into Nuke, into Blender, onto a machine without internet."""
