"""trivd: predict the future of a video with TrIVD-GAN-FP (Luc et al. 2020)."""
