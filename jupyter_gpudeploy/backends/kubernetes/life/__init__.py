"""The life of a run's objects: the claim of a name, launch, stop, resume, its secrets."""
