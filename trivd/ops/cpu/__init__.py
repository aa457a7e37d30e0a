"""C++ kernels, compiled once by this machine's compiler, and how they are called."""
