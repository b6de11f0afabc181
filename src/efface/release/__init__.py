"""What leaves the house: a finished run as weights that other programs load, measured once more as they ship."""
