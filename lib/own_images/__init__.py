"""`python -m lib predict`: the trained ensemble and its decision on any images, without a competition."""
