"""A concept from its name alone: the model writes the pack itself, from what it says."""
