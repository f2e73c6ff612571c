"""`make bench`: what the middleware costs, side by side with the same consumer bare. See docs/benchmarks.md."""
