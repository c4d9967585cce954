"""Label cleaning: training labels that look wrong, because predictions contradict them more than expected.

Knows out-of-fold predictions and labels. Never changes the organiser's labels, and never trains.
"""
