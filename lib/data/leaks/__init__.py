"""The leak check: images that are copies of one another or share ground, found by their content.

Such a pair in two folds lets validation see the training data. Local features propose likely pairs (candidates.py);
a pair counts only if the pixels agree after one image is warped onto the other (compare.py).
"""
