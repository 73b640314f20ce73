"""Where GPU samples and server metrics come from, one file a source."""
