"""What the tests share: databases, server processes, chat clients, a browser."""
