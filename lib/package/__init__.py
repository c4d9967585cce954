"""A self-contained folder that predicts images without internet, training data or this repository. Never trains."""
