"""Submissions that were made: their ledger, Kaggle's scores of them, and which to choose. Never predicts."""
