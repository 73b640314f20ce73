"""What a member of a family promises, as tests. Subclass one and say how to make yours."""
