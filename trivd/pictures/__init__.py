"""Everything that is looked at: frames, flow, plots, Markdown and HTML."""
