"""From the maps of an ensemble to labels: weights, thresholds, gates and post-processing, fitted on out-of-fold maps
and cross-fitted. Knows counts and maps, never networks or image files.

Begin with fit.py (`fit_ensemble`) and decision.py (`Decision`). objects/ holds the rules of objects.
"""
