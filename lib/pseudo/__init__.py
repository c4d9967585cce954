"""Pseudo-labels: from predictions on unlabeled images to tiles that 03 can train on."""
