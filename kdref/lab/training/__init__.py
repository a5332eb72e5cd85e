"""Training and measuring: loop, batches, paired seeds, session, measurements, activations inside a network."""
