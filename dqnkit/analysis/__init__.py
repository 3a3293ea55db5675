"""What was trained, looked at: evaluated, drawn, compared and listed."""
