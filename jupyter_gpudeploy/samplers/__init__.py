"""Which point of a search space comes next, one file a method."""
