"""Polygons and the places of images on Earth: files of polygons, coordinates of maps, and pixels under an outline."""
