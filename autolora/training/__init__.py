"""What search and retrain share: batches, gradients, optimisers, checkpoints and the loop over steps."""
