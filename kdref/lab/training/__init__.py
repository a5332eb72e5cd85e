"""Training and measuring: loop, batches, paired seeds, session, measurements, attack, activations of a network."""
