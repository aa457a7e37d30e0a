"""TrIVD-GAN-FP in stock PyTorch, straight from the paper's equations; meant to be read, in this order.

    layers          convolutions and linear maps with spectral normalisation; taking over trivd's weights
    warping         kernel-based warping (Eq 11), the networks f that predict its weights (Eq 12, F.1)
    units           every recurrent unit (Eq 1-10 and 16-22, F.3, F.4)
    blocks          the residual blocks, and batch normalisation of each time step
    generator       the generator G with its encoder E (A)
    discriminators  what each discriminator sees, its network and its heads (3.1, A, Eq 15)
    step            the losses (Eq 13, 14), the optimizers and the order of a training step (E)
    i3d             the network whose logits the Fréchet video distance compares

Each line computes what the paper has in that place: nothing is folded, fused or deferred. The tests of `trivd` compare
its networks with these, gradients included, and the benchmarks its speed. Only the configuration is shared.
Features of G are (T, B, C, H, W), time first; videos are (B, T, C, H, W).
"""
