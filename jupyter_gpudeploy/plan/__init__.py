"""What is decided: a Spec and what a backend can do become a Plan. Pure: no process, no cluster, no thread."""
