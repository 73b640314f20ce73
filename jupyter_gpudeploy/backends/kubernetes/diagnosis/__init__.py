"""Why something does not start, or has ended: one sentence from conditions and events. Pure."""
