"""Out-of-fold maps of whole images: predicted, compared with labels, counted, sampled and kept. Decides nothing."""
