"""What people would serve the pipeline with instead, each in an environment of its own."""
