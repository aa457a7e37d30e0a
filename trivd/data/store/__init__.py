"""Videos decoded once into files of uint8 frames."""
