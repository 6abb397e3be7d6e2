"""The studio: Runs of a folder as pages for the person who looks rather than reads. Needs the extra ``studio``."""
