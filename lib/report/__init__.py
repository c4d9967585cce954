"""Tables, pictures and pages of what was made. Reads what the stages left, and never changes a result."""
