"""The store: videos decoded once into files of uint8 frames."""
