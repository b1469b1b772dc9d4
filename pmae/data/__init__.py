"""Data sets: one reader a format, splits in memory or streamed, and batched augmentation."""
