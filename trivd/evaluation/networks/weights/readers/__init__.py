"""Readers of every kind of file that holds I3D's weights, from which only arrays come out.

TensorFlow's checkpoints, and the TF-Hub modules (.tar.gz) that hold them, are read by a few hundred lines of our own:
TensorFlow is a heavy dependency for one file, and Python's tarfile lets a file of 512 bytes take any memory. PyTorch's
files are left to torch.load with weights_only=True, which runs nothing in them but lets them take any memory and time:
it runs in a process with limits. TorchScript archives need torch.jit.load, which makes a program of them; without their
code they are files of torch.save, and are read as such.
"""
