"""Where runs live. A backend is a folder here whose package has `EXPORT`, a class that fits `base.Backend`."""
