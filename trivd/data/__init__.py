"""From files to clips: readers, data sets, and the store of decoded frames."""
