"""Tables and pictures of what was made."""
