"""A real Kubernetes on this machine, for the tests: `python -m tests.cluster up`. See README.md beside this file."""
