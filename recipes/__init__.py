"""One short script a method: each reads like the algorithm box of its paper, and runs by itself or as a module."""
