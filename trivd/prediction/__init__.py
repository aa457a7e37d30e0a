"""From trained models to futures, their files, comparisons side by side, Figure 3, and a run's page."""
