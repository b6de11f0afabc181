"""Language models: loading, their layers and states, key/value caches, adapters, the chat format."""
