"""The commands of the demo. Code here may touch `console.demo`."""
