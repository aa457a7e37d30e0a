"""The paper's comparisons, trained with several seeds at a size of one's own machine."""
