"""Stage 05: test images to answers, within a time limit where there is one. Chooses only what is set to `auto`."""
