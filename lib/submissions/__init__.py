"""Submissions: their ledger, their scores on Kaggle, and which ones to choose. Never predicts."""
