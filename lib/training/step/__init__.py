"""One optimizer step: its gradients, in parts where memory is short, and the guard against NaN and infinity."""
