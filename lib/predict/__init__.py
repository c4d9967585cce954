"""05: test images to answers, within a time limit where there is one. Fits nothing but what `auto` asks for."""
