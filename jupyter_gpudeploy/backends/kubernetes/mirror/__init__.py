"""A cluster as folders: list and watch, logs, and the states that follow from them."""
