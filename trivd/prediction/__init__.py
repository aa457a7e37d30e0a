"""From a trained model to futures, their files, and a run's page."""
