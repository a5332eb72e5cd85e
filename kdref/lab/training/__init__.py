"""Training and measuring: loop, batches, seeds, session, measures, attack, activations; processes, stored outputs."""
