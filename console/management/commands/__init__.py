"""The commands that run the demo and its cluster, a module for each. No other module imports a command."""
