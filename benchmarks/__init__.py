"""What ``make bench`` and ``make results`` run."""
