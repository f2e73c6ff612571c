"""`make bench`: what the middleware costs, compared with the same consumer without it. See docs/benchmarks.md."""
