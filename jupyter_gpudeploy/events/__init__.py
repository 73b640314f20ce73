"""What happened: the records of a run, the folder that keeps them, and how they are followed."""
