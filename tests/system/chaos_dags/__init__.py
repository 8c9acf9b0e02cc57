"""What the chaos suite has scheduled."""
