"""The report page, its charts and pictures, and experiment trackers. Reads results and never changes them."""
