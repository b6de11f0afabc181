"""A concept: its pack, where packs are found, the corpora they name."""
