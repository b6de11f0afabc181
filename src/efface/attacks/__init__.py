"""How an erasure is attacked."""
