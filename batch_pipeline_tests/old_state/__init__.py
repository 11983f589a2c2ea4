"""A state folder as the first release left it; README.md says what is in it and how it was made."""
