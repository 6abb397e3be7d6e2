"""Search collections: queries, documents, and judgements of which document answers which query."""
