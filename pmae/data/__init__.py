"""Data sets: what there is (``catalog``), one loader a format, and batched augmentation."""
