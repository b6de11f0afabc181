"""What people look at: the table in the terminal, the page, the model card. Reads results only, never torch."""
