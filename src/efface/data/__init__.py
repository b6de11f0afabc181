"""From a concept pack to batches: texts, teacher targets, fluency samples, collation."""
