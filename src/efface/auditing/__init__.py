"""What is measured on a base and an erased model, and its statistics."""
