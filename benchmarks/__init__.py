"""What ``make bench``, ``make packs``, ``make methods`` and ``make ablation`` run."""
