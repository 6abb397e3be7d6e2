"""What a report says of a Run, a module for each topic."""
