"""A recipe: every setting of an erasure, the presets, and how they come together."""
