"""How metrics come back from a program, one file a way."""
