"""Out-of-distribution detectors, one family a module."""
