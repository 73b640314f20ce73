"""Speaking with an API server: plain dicts in and out, one tree of errors, connections that heal. Knows no run."""
