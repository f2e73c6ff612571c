"""Five tiers of tests, chaos runs, an adopter's project, and what these share. See CONTRIBUTING.md."""
