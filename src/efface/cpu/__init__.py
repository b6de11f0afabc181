"""What only a processor needs."""
