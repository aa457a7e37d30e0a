"""TrIVD-GAN-FP written plainly in stock PyTorch."""
