"""What was asked: the text of a cell becomes a Spec. Pure; the only package that imports pydantic."""
