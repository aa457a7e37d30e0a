"""From files to clips: file formats, data sets, the store of decoded frames, and loading."""
