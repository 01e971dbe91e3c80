"""The Hydra launcher that turns ``--multirun`` into one campaign on one cluster."""
