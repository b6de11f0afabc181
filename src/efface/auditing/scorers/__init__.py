"""What is measured on a model, one scorer a file, and the audit that runs them on base and erased model."""
