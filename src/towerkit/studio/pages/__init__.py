"""The pages: each makes a view of what it is given, and knows nothing of HTTP."""
