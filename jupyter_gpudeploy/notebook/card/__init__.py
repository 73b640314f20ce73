"""The live card, Python's side: what is read of a run, what of it is sent, and when. `protocol.py` has the messages."""
