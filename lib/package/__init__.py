"""Packages: self-contained folders that predict images without internet, training data or this repository."""
