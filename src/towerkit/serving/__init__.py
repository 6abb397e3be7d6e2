"""A Run as a live service: HTTP in front, one thread that computes, a log of events behind. Needs the extra ``serve``."""
