"""What runs in the child, where the user's file cannot be started as it is. They know nothing of the other rooms."""
