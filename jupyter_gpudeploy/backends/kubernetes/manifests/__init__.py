"""A Plan as objects: Python decides, a template a kind gives the shape. Nothing is asked of a cluster."""
