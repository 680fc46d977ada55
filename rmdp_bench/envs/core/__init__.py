"""What all worlds share."""
