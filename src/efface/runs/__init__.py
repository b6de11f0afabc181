"""From a recipe to a run folder, and the audit of one."""
