"""Files to and from pods: what a program needs, and what it leaves."""
