"""What a user may pass, made into arrays."""
