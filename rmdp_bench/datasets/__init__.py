"""Data sets: what was collected, by which policies, and how it is made again."""
