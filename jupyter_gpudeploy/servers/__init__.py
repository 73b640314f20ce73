"""What is known of each model server, one file a server."""
