"""What the commands do beyond the main path: read flags, speak, prove, examine. `cli` stands above, rooms below."""
